// Package signame reads signals as people write them.
package signame

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Parse reads a signal by name, with or without SIG, or by number.
func Parse(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, fmt.Errorf("signal %d does not exist: want 1 to 64", n)
		}
		return syscall.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	if sig, ok := realtime(name); ok {
		return sig, nil
	}
	return 0, fmt.Errorf("signal %q does not exist: want a name such as TERM or SIGTERM, or a number", s)
}

// realtime reads RTMIN+n and RTMAX-n as the C library numbers them.
func realtime(name string) (syscall.Signal, bool) {
	const first, last = 34, 64
	for _, from := range []struct {
		name, sign string
		number     int
		step       int
	}{{"SIGRTMIN", "+", first, 1}, {"SIGRTMAX", "-", last, -1}} {
		if name == from.name {
			return syscall.Signal(from.number), true
		}
		if offset, ok := strings.CutPrefix(name, from.name+from.sign); ok {
			n, err := strconv.ParseUint(offset, 10, 8)
			sig := from.number + from.step*int(n)
			return syscall.Signal(sig), err == nil && sig >= first && sig <= last
		}
	}
	return 0, false
}
