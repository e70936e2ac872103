package run

import (
	"fmt"
	"net"
	"strconv"

	"mica/run/record"
)

// chooseHostPorts gives a free port of the host to each port that names only the container's. They are chosen when the
// container is made, so that it keeps them over restarts.
func chooseHostPorts(ports []record.Port) error {
	for i := range ports {
		p := &ports[i]
		if p.Host != 0 {
			continue
		}
		port, release, err := freePort(p.Protocol, p.HostIP)
		if err != nil {
			return fmt.Errorf("find a free port of the host for port %d: %w", p.Container, err)
		}
		defer release() // held until all are chosen, so that none is chosen twice
		p.Host = port
	}
	return nil
}

// freePort has the kernel choose a port that nobody listens on.
func freePort(protocol, ip string) (port uint16, release func() error, err error) {
	at := net.JoinHostPort(ip, "0")
	var addr net.Addr
	if protocol == "udp" {
		c, err := net.ListenPacket("udp", at)
		if err != nil {
			return 0, nil, err
		}
		addr, release = c.LocalAddr(), c.Close
	} else {
		l, err := net.Listen("tcp", at)
		if err != nil {
			return 0, nil, err
		}
		addr, release = l.Addr(), l.Close
	}
	_, text, err := net.SplitHostPort(addr.String())
	if err != nil {
		return 0, nil, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), release, err
}
