package run

import (
	"testing"

	"mica/run/record"
)

func TestChooseHostPorts(t *testing.T) {
	ports := []record.Port{
		{Container: 80, Protocol: "tcp"}, {Container: 81, Protocol: "tcp"}, {Host: 8080, Container: 82, Protocol: "tcp"},
		{HostIP: "127.0.0.1", Container: 53, Protocol: "udp"},
	}
	if err := chooseHostPorts(ports); err != nil {
		t.Fatal(err)
	}
	if ports[0].Host == 0 || ports[1].Host == 0 || ports[3].Host == 0 || ports[0].Host == ports[1].Host || ports[2].Host != 8080 {
		t.Errorf("chosen: %+v", ports)
	}
	if err := chooseHostPorts([]record.Port{{HostIP: "192.0.2.1", Container: 80, Protocol: "tcp"}}); err == nil {
		t.Error("a port of an address that is not the machine's is found")
	}
}
