// Package ports finds the ports of the host that lead to a container: free ones where the user names none, and whether those that
// are named can be had.
package ports

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/portspec"
	"mica/run/record"
)

// anyPortTries is how often the kernel is asked for a port: it may give one that is free for one kind of addresses only.
const anyPortTries = 10

// portPatience is how long a port may take to become free: what led it to a container that has just ended ends a little later.
const portPatience = time.Second

// Choose gives a free port of the host to each port that names only the container's, or several to choose from.
// They are chosen when the container is made, so that it keeps them over restarts.
func Choose(ports []record.Port) error {
	fixed := make(map[string]bool)
	for _, p := range ports {
		if p.Host == 0 || p.HostLast != 0 {
			continue
		}
		key := fmt.Sprintf("%s %s %d", p.Protocol, p.HostIP, p.Host)
		if fixed[key] {
			return fmt.Errorf("port %d/%s of the host leads to two ports of the container: leave one out", p.Host, p.Protocol)
		}
		fixed[key], fixed[fmt.Sprintf("%s %d", p.Protocol, p.Host)] = true, true
	}
	for i := range ports {
		p := &ports[i]
		if p.Host != 0 && p.HostLast == 0 {
			continue
		}
		candidates := slices.Repeat([]uint16{0}, anyPortTries)
		if p.HostLast != 0 {
			candidates = nil
			for n := int(p.Host); n <= int(p.HostLast); n++ {
				if !fixed[fmt.Sprintf("%s %d", p.Protocol, n)] {
					candidates = append(candidates, uint16(n))
				}
			}
		}
		var release func()
		err := error(unix.EADDRINUSE) // where there is no candidate
		for _, n := range candidates {
			if p.Host, release, err = holdPort(p.Protocol, p.HostIP, n); err == nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("find a free port of the host for port %d: %w", p.Container, err)
		}
		p.HostLast = 0
		defer release() // held until all are chosen, so that none is chosen twice
	}
	return nil
}

// Check refuses ports of the host that somebody uses, for one of the kinds of addresses or both: the program that
// leads them to the container is content with the other one.
func Check(ports []record.Port) error {
	deadline := time.Now().Add(portPatience)
	for _, p := range ports {
		_, release, err := holdPort(p.Protocol, p.HostIP, p.Host)
		for errors.Is(err, unix.EADDRINUSE) && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
			_, release, err = holdPort(p.Protocol, p.HostIP, p.Host)
		}
		if errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("port %d/%s of the host is in use: choose another one, or leave it out to get a free one", p.Host, p.Protocol)
		}
		if errors.Is(err, unix.EACCES) {
			return fmt.Errorf("port %d/%s of the host is not for plain users to listen on: choose a higher one; root lets them with \"sysctl net.ipv4.ip_unprivileged_port_start=%d\"",
				p.Host, p.Protocol, p.Host)
		}
		if err == nil {
			release()
		}
	}
	return nil
}

// AddExposed adds the ports that a container exposes ("80/tcp", "8000-8010/udp") and that no port of the host leads to yet.
func AddExposed(ports []record.Port, exposed map[string]struct{}) ([]record.Port, error) {
	for _, spec := range slices.Sorted(maps.Keys(exposed)) {
		expose, err := portspec.Parse(spec)
		if err != nil {
			return nil, fmt.Errorf("the image exposes port %q, which is none: publish the ports that you need with -p", spec)
		}
		for n := expose.First; n <= expose.Last; n++ {
			p := record.Port{Container: uint16(n), Protocol: expose.Protocol}
			if !slices.ContainsFunc(ports, func(have record.Port) bool { return have.Container == p.Container && have.Protocol == p.Protocol }) {
				ports = append(ports, p)
			}
		}
	}
	return ports, nil
}

// holdPort takes a port that nobody else listens on; 0 is whichever the kernel chooses. Without an address it is that of
// all, of both kinds.
func holdPort(protocol, ip string, port uint16) (taken uint16, release func(), err error) {
	if ip != "" {
		return listenOn(protocol, ip, port)
	}
	taken, release4, err := listenOn(protocol, "0.0.0.0", port)
	if err != nil {
		return 0, nil, err
	}
	_, release6, err := listenOn(protocol, "::", taken)
	if errors.Is(err, unix.EADDRINUSE) {
		release4()
		return 0, nil, err
	}
	if err != nil { // this machine has no such addresses
		return taken, release4, nil
	}
	return taken, func() { release4(); release6() }, nil
}

func listenOn(protocol, ip string, port uint16) (taken uint16, release func(), err error) {
	at := net.JoinHostPort(ip, strconv.Itoa(int(port)))
	kind := "4"
	if strings.Contains(ip, ":") {
		kind = "6"
	}
	var addr net.Addr
	var l io.Closer
	if protocol == "udp" {
		c, err := net.ListenPacket("udp"+kind, at)
		if err != nil {
			return 0, nil, err
		}
		addr, l = c.LocalAddr(), c
	} else {
		c, err := net.Listen("tcp"+kind, at)
		if err != nil {
			return 0, nil, err
		}
		addr, l = c.Addr(), c
	}
	_, text, err := net.SplitHostPort(addr.String())
	if err != nil {
		return 0, nil, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), func() { l.Close() }, err
}
