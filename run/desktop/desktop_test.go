package desktop

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mica/run/mounted"
	"mica/run/sandbox"
	"mica/run/skeleton"
)

func entry(family uint16, address, number string) []byte {
	e := xAuth{family, []byte(address), []byte(number), []byte("MIT-MAGIC-COOKIE-1"), []byte("cookie-" + address + number)}
	return e.append(nil)
}

func TestXAuthority(t *testing.T) {
	const local, wild, internet = xFamilyLocal, xFamilyWild, 0
	for name, c := range map[string]struct {
		in   [][]byte
		want []string // family as 'w' or 'i', then the cookie
	}{
		"this machine's":     {[][]byte{entry(local, "here", "0"), entry(local, "old", "0")}, []string{"w cookie-here0"}},
		"an old name's":      {[][]byte{entry(local, "old", "0")}, []string{"w cookie-old0"}},
		"another display's":  {[][]byte{entry(local, "here", "1")}, nil},
		"any display's":      {[][]byte{entry(local, "here", "")}, []string{"w cookie-here"}},
		"any machine's":      {[][]byte{entry(wild, "", "0")}, []string{"w cookie-0"}},
		"another machine's":  {[][]byte{entry(internet, "\x01\x02\x03\x04", "0")}, []string{"i cookie-\x01\x02\x03\x040"}},
		"nothing":            {nil, nil},
		"two kinds of entry": {[][]byte{entry(local, "here", "0"), entry(wild, "", "0")}, []string{"w cookie-here0", "w cookie-0"}},
	} {
		file := filepath.Join(t.TempDir(), "authority")
		var data []byte
		for _, e := range c.in {
			data = append(data, e...)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := xAuthority(file, "0", "here")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		entries, err := parseXAuthority(out)
		if err != nil || len(entries) != len(c.want) {
			t.Errorf("%s: %d entries, %v", name, len(entries), err)
			continue
		}
		for i, e := range entries {
			got := "i "
			if e.family == wild && len(e.address) == 0 {
				got = "w "
			}
			if got += string(e.data); got != c.want[i] {
				t.Errorf("%s: %q, want %q", name, got, c.want[i])
			}
		}
		// A file that is cut off is an error, never a wrong cookie.
		for n := 1; n < len(data); n++ {
			part, err := parseXAuthority(data[:n])
			if whole := n == len(c.in[0]); err == nil != whole {
				t.Errorf("%s, cut off at %d: %d entries, %v", name, n, len(part), err)
			}
		}
	}
	if out, err := xAuthority("/does/not/exist", "0", "here"); err != nil || out != nil {
		t.Errorf("no file: %q, %v", out, err)
	}
}

func TestFindDisplay(t *testing.T) {
	run := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(run, "wayland-0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	// An X server that listens at an abstract socket alone.
	abstract, err := net.Listen("unix", "@"+skeleton.X11Sockets+"/X31415")
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	for _, c := range []struct{ wayland, x11, network, want, err string }{
		{"", "", "", "", "there is no display"},
		{"", "", "run", run + "/wayland-0 ", ""},
		{"wayland-0", "", "run", run + "/wayland-0 ", ""},
		{run + "/wayland-0", "", "", run + "/wayland-0 ", ""},
		{"wayland-1", "", "run", "", "there is no display"},
		{"", ":31415", "", " :31415", ""},
		{"", "unix:31415.2", "host", " unix:31415.2", ""},
		{"", ":31415", "none", "", "abstract socket alone"},
		{"wayland-0", ":31415", "none run", run + "/wayland-0 ", ""},
		{"", ":27182", "", "", "no X server answers"},
		{"", "there:0", "", " there:0", ""},
		{"", "there:0", "none", "", "over the network"},
		{"", "0", "", "", "names no display"},
		{"", ":../x", "", "", "names no display"},
	} {
		t.Setenv("WAYLAND_DISPLAY", c.wayland)
		t.Setenv("DISPLAY", c.x11)
		t.Setenv("XDG_RUNTIME_DIR", "")
		network, ok := strings.CutSuffix(c.network, "run")
		if ok {
			t.Setenv("XDG_RUNTIME_DIR", run)
		}
		d, err := findDisplay(strings.TrimSpace(network))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		if got := d.wayland + " " + d.x11; err != nil || got != c.want || d.socket != "" {
			t.Errorf("%+v: %q, %q, %v", c, got, d.socket, err)
		}
	}
}

func TestOrderMounts(t *testing.T) {
	var mounts []sandbox.Mount
	for _, target := range []string{"/home/me", "/run", "/home", "/home/me/x", "/run", "/"} {
		mounts = append(mounts, sandbox.Mount{Target: target, Source: string(rune('a' + len(mounts)))})
	}
	var got []string
	for _, m := range mounted.Order(mounts) {
		got = append(got, m.Source+m.Target)
	}
	if want := "b/run c/home e/run f/ a/home/me d/home/me/x"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
