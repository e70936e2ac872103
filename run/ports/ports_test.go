package ports

import (
	"net"
	"slices"
	"strings"
	"testing"

	"mica/run/record"
)

func TestChooseHostPorts(t *testing.T) {
	ports := []record.Port{
		{Container: 80, Protocol: "tcp"}, {Container: 81, Protocol: "tcp"}, {Host: 8080, Container: 82, Protocol: "tcp"},
		{HostIP: "127.0.0.1", Container: 53, Protocol: "udp"},
	}
	if err := Choose(ports); err != nil {
		t.Fatal(err)
	}
	if ports[0].Host == 0 || ports[1].Host == 0 || ports[3].Host == 0 || ports[0].Host == ports[1].Host || ports[2].Host != 8080 {
		t.Errorf("chosen: %+v", ports)
	}
	if err := Choose([]record.Port{{HostIP: "192.0.2.1", Container: 80, Protocol: "tcp"}}); err == nil {
		t.Error("a port of an address that is not the machine's is found")
	}
}

// TestPortsInUse: a port that somebody uses for one kind of addresses only is not free, and is passed over in a range.
func TestPortsInUse(t *testing.T) {
	for _, at := range []string{"0.0.0.0:0", "127.0.0.1:0"} {
		l, err := net.Listen("tcp4", at)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		used := uint16(l.Addr().(*net.TCPAddr).Port)
		err = Check([]record.Port{{Host: used, Container: 80, Protocol: "tcp"}})
		if err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("%s: %v", at, err)
		}
		ports := []record.Port{{Host: used, HostLast: used + 20, Container: 80, Protocol: "tcp"}}
		if err := Choose(ports); err != nil || ports[0].Host <= used || ports[0].Host > used+20 || ports[0].HostLast != 0 {
			t.Errorf("%s: %+v, %v", at, ports, err)
		}
	}
}

func TestAddExposed(t *testing.T) {
	have := []record.Port{{Host: 8080, Container: 81, Protocol: "tcp"}}
	got, err := AddExposed(have, map[string]struct{}{"80-82/tcp": {}, "53/udp": {}, "65535": {}, "90-90/sctp": {}})
	if err != nil {
		t.Fatal(err)
	}
	want := []record.Port{
		{Host: 8080, Container: 81, Protocol: "tcp"}, {Container: 53, Protocol: "udp"}, {Container: 65535, Protocol: "tcp"},
		{Container: 80, Protocol: "tcp"}, {Container: 82, Protocol: "tcp"}, {Container: 90, Protocol: "sctp"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, spec := range []string{"0", "82-80/tcp", "80-", "-80", "1-65536", "http", "80-81-82"} {
		if got, err := AddExposed(nil, map[string]struct{}{spec: {}}); err == nil {
			t.Errorf("%q is taken for %+v", spec, got)
		}
	}
}
