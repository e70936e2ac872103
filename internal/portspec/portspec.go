// Package portspec reads ports of containers as people and images write them.
package portspec

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Range is some ports in a row: one at least, none of them 0.
type Range struct{ First, Last int }

var errWant = errors.New("want PORT[-PORT][/tcp|udp|sctp]")

// ParseRange reads PORT or FIRST-LAST.
func ParseRange(s string) (Range, error) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	low, err1 := strconv.ParseUint(first, 10, 16)
	high, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || low == 0 || high < low {
		return Range{}, errWant
	}
	return Range{int(low), int(high)}, nil
}

// Ports are ports of one protocol that a container exposes.
type Ports struct {
	Range
	Protocol string // tcp, udp or sctp
}

// Parse reads PORT[-LAST][/PROTOCOL]. Without a protocol it is tcp.
func Parse(s string) (p Ports, err error) {
	ports, protocol, has := strings.Cut(s, "/")
	if !has {
		protocol = "tcp"
	}
	p.Protocol = strings.ToLower(protocol)
	if !slices.Contains([]string{"tcp", "udp", "sctp"}, p.Protocol) {
		return p, errWant
	}
	p.Range, err = ParseRange(ports)
	return p, err
}

// String is what Parse reads, with the protocol.
func (p Ports) String() string {
	if p.First == p.Last {
		return fmt.Sprintf("%d/%s", p.First, p.Protocol)
	}
	return fmt.Sprintf("%d-%d/%s", p.First, p.Last, p.Protocol)
}
