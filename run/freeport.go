package run

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

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

// addExposed adds the ports that a container exposes ("80/tcp", "8000-8010/udp") and that no port of the host leads to yet.
func addExposed(ports []record.Port, exposed map[string]struct{}) ([]record.Port, error) {
	for _, spec := range slices.Sorted(maps.Keys(exposed)) {
		numbers, protocol, _ := strings.Cut(spec, "/")
		first, last, ranged := strings.Cut(numbers, "-")
		if !ranged {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil || from == 0 || to < from {
			return nil, fmt.Errorf("the image exposes port %q, which is none: publish the ports that you need with -p", spec)
		}
		for n := from; n <= to; n++ {
			p := record.Port{Container: uint16(n), Protocol: cmp.Or(protocol, "tcp")}
			if !slices.ContainsFunc(ports, func(have record.Port) bool { return have.Container == p.Container && have.Protocol == p.Protocol }) {
				ports = append(ports, p)
			}
		}
	}
	return ports, nil
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
