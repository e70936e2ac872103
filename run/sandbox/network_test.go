package sandbox

import (
	"fmt"
	"io"
	"net"
	"os"
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
