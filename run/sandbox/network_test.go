package sandbox

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestNetworkNoneHasLoopback(t *testing.T) {
	cfg := sh("cat /proc/net/dev; cat /sys/class/net/lo/flags; ls /sys/class/net")
	cfg.Network = NetworkNone
	out, _ := output(t, cfg)
	if !strings.Contains(out, "0x9\n") || strings.Contains(out, "eth0") {
		t.Errorf("want loopback up and nothing else:\n%s", out)
	}
}

func TestPastaForwardsPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cfg := self("listen", "7777")
	cfg.Network = NetworkPasta
	cfg.Ports = []Port{{HostIP: "127.0.0.1", Host: uint16(port), Sandbox: 7777}}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Process.Stdout, cfg.Process.Stderr = w, w
	s, err := Start(t.Context(), cfg)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, len("listening\n"))); err != nil {
		t.Fatal(err)
	}
	// pasta listens outside before its own side of the network inside is up,
	// and drops what comes meanwhile.
	var got []byte
	for deadline := time.Now().Add(20 * time.Second); len(got) == 0 && time.Now().Before(deadline); {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		if got, _ = io.ReadAll(c); len(got) > 0 {
			_, _ = c.Write([]byte("!"))
		}
		c.Close()
	}
	if string(got) != "from inside" {
		t.Errorf("got %q", got)
	}
	if st, err := s.Wait(); err != nil || st.Code != 0 {
		t.Errorf("status %v, %v", st, err)
	}
}

// TestPastaWithDescriptors: a pasta that may not open the namespaces of another process, as AppArmor has it on Debian 12, gets
// them as descriptors. This one tells whether they are those of the process that it was to open.
func TestPastaWithDescriptors(t *testing.T) {
	dir := t.TempDir()
	script := `#!/bin/sh
here=${0%/*} ready=
for a; do
	[ "$last" = --pid ] && ready=$a
	last=$a
done
case "$*" in
*"--userns /proc/self/fd/3 --netns /proc/self/fd/4")
	[ "$(readlink /proc/self/fd/3 /proc/self/fd/4)" = "$(cat "$here/want")" ] || { echo "other namespaces"; exit 1; }
	echo $$ >"$ready"
	exec sleep 1000 ;;
esac
readlink "/proc/$last/ns/user" "/proc/$last/ns/net" >"$here/want"
echo "Couldn't open user namespace /proc/$last/ns/user: Permission denied" >&2
exit 1
`
	if err := os.WriteFile(filepath.Join(dir, "pasta"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	cfg := sh("echo started")
	cfg.Network = NetworkPasta
	if out, _ := output(t, cfg); out != "started\n" {
		t.Errorf("%q", out)
	}
}

// TestPastaPortInUse: one line says which port it is.
func TestPastaPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	cfg := sh("true")
	cfg.Network = NetworkPasta
	cfg.Ports = []Port{{HostIP: "127.0.0.1", Host: uint16(port), Sandbox: 80}}
	if s, err := Start(t.Context(), cfg); err == nil {
		s.Kill()
		t.Error("started")
	} else if said := err.Error(); !strings.Contains(said, fmt.Sprint(port)) || strings.Contains(said, "\n") {
		t.Errorf("%q", said)
	}
}
