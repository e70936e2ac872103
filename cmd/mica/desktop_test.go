package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// noDesktop is an environment in which there is no desktop.
func noDesktop(home string) []string {
	return []string{"HOME=" + home, "DISPLAY=", "WAYLAND_DISPLAY=", "XAUTHORITY=", "XDG_RUNTIME_DIR=", "DBUS_SESSION_BUS_ADDRESS=", "PULSE_SERVER="}
}

// xEntry is an entry of an X authority file with a fixed cookie.
func xEntry(family uint16, address, number string) []byte {
	b := binary.BigEndian.AppendUint16(nil, family)
	for _, s := range []string{address, number, "MIT-MAGIC-COOKIE-1", "0123456789abcdef"} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return b
}

// startX starts an X server without a screen that wants a cookie, and gives the
// variables that lead to it.
func startX(t *testing.T) (env []string) {
	t.Helper()
	dir := t.TempDir()
	serverFile, clientFile := filepath.Join(dir, "server"), filepath.Join(dir, "client")
	if err := os.WriteFile(serverFile, xEntry(65535, "", ""), 0o600); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	// Without -noreset it begins anew when its last client leaves, and loses who comes at that moment.
	server := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "320x240x24", "-nolisten", "tcp", "-noreset", "-auth", serverFile)
	server.ExtraFiles = []*os.File{w}
	var words bytes.Buffer
	server.Stderr = &words
	if err := server.Start(); err != nil {
		t.Fatalf("start an X server (Debian: apt install xvfb): %v", err)
	}
	w.Close()
	t.Cleanup(func() { _ = server.Process.Kill(); _ = server.Wait() })
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("start an X server: %v\n%s", err, words.String())
	}
	number := strings.TrimSpace(line)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	// As xauth enters it: for this machine alone.
	entries := append(xEntry(256, "another-name", number), xEntry(256, host, number)...)
	if err := os.WriteFile(clientFile, entries, 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"DISPLAY=:" + number, "XAUTHORITY=" + clientFile}
}

// whitePixels counts them in a screenshot.
func whitePixels(t *testing.T, env []string) int {
	t.Helper()
	cmd := exec.Command("xwd", "-root", "-silent")
	cmd.Env = append(os.Environ(), env...)
	shot, err := cmd.Output()
	if err != nil {
		t.Fatalf("take a screenshot (Debian: apt install x11-apps): %v", err)
	}
	header := binary.BigEndian.Uint32(shot) + 12*binary.BigEndian.Uint32(shot[76:]) // and the colour map; see XWDFile.h
	return bytes.Count(shot[header:], []byte{0xff, 0xff, 0xff})
}

// A program shows its window on a display that wants a cookie, from a machine of another name.
func TestDesktopWindow(t *testing.T) {
	c := newCLI(t)
	x := startX(t)
	c.env = append(noDesktop(t.TempDir()), x...)
	if n := whitePixels(t, x); n != 0 {
		t.Fatalf("%d white pixels on an empty screen", n)
	}
	c.ok("run", "-d", "--name", "clock", "--desktop", "host", "xclock", "-geometry", "200x150+10+10")
	c.remove("clock")
	until(t, "the window of xclock", func() bool { return whitePixels(t, x) > 15000 })
	// Whoever joins later can use the display too, but not without the cookie.
	c.ok("exec", "clock", "xwd", "-root", "-silent", "-out", "/dev/null")
	if r := c.run("exec", "-e", "XAUTHORITY=/dev/null", "clock", "xwd", "-root", "-out", "/dev/null"); r.code == 0 {
		t.Error("the display takes everybody")
	}
	c.ok("run", "--rm", "--desktop", "--network", "none", "host", "xwd", "-root", "-silent", "-out", "/dev/null")
}

func TestNoDisplay(t *testing.T) {
	c := newCLI(t)
	c.env = noDesktop(t.TempDir())
	c.fails(125, "there is no display", "run", "--name", "blind", "--desktop", "base", "true")
	c.env = append(c.env, "DISPLAY=:4242")
	c.fails(125, "no X server answers at DISPLAY=:4242", "run", "--name", "blind", "--desktop", "base", "true")
	c.env = append(c.env, "DISPLAY=nonsense")
	c.fails(125, "names no display", "run", "--name", "blind", "--desktop", "base", "true")
	c.fails(125, "want private, shared or cow", "run", "--home", "mine", "base", "true")
	if out := c.ok("ps", "-aq", "--filter", "name=blind"); out != "" {
		t.Errorf("left behind: %s", out)
	}
}

// What a container finds of a Wayland desktop with sound and a session bus.
func TestDesktopSockets(t *testing.T) {
	c := newCLI(t)
	home, run := t.TempDir(), t.TempDir()
	c.env = append(noDesktop(home), "XDG_RUNTIME_DIR="+run, "WAYLAND_DISPLAY=wayland-7", "TZ=UTC-3", "LANG=C.UTF-8")
	if err := os.MkdirAll(filepath.Join(run, "pulse"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"wayland-7", "pulse/native", "pipewire-0", "bus"} {
		l, err := net.Listen("unix", filepath.Join(run, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	if err := os.MkdirAll(filepath.Join(home, ".local/share/fonts"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := `for s in $WAYLAND_DISPLAY pulse/native pipewire-0 bus; do test -S $XDG_RUNTIME_DIR/$s && echo $s; done
echo $PULSE_SERVER $DBUS_SESSION_BUS_ADDRESS $TZ $LANG
stat -c '%a %u' $XDG_RUNTIME_DIR $HOME | sort -u
touch $HOME/.local/share/x && echo writable
touch $HOME/.local/share/fonts/x 2>/dev/null || echo read-only
cat /etc/fonts/conf.d/05-mica-host.conf | grep -c /run/host/fonts
test -d /run/host/fonts && echo fonts`
	dir := fmt.Sprintf("/run/user/%d", os.Getuid())
	want := fmt.Sprintf("wayland-7\npulse/native\npipewire-0\nbus\nunix:%s/pulse/native unix:path=%s/bus UTC-3 C.UTF-8\n700 %d\nwritable\nread-only\n1\nfonts",
		dir, dir, os.Getuid())
	if out := c.ok("run", "--name", "sockets", "--desktop", "base", "sh", "-c", script); out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	c.remove("sockets")
	for line := range strings.Lines(c.ok("diff", "sockets")) {
		for _, mine := range []string{"/run", "/etc/fonts", "/tmp/.X11-unix"} {
			if strings.HasPrefix(line[2:], mine) {
				t.Errorf("a change of the desktop's: %s", line)
			}
		}
	}
	// What the user says comes before what the desktop says.
	if out := c.ok("run", "--rm", "--desktop", "-e", "TZ=UTC-5", "-u", "root", "base", "sh", "-c", "echo $TZ; id -u"); out != "UTC-5\n0" {
		t.Errorf("%q", out)
	}
}
