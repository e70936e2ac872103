package run

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ParseSignal reads a signal by name, with or without SIG, or by number.
func ParseSignal(s string) (syscall.Signal, error) {
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
	if sig, ok := realtimeSignal(name); ok {
		return sig, nil
	}
	return 0, fmt.Errorf("signal %q does not exist: want a name such as TERM or SIGTERM, or a number", s)
}

// realtimeSignal reads RTMIN+n and RTMAX-n as the C library numbers them.
func realtimeSignal(name string) (syscall.Signal, bool) {
	const first, last = 34, 64
	base, offset, sign := 0, "", 1
	switch {
	case strings.HasPrefix(name, "SIGRTMIN"):
		base, offset = first, strings.TrimPrefix(name[len("SIGRTMIN"):], "+")
	case strings.HasPrefix(name, "SIGRTMAX"):
		base, offset, sign = last, strings.TrimPrefix(name[len("SIGRTMAX"):], "-"), -1
	default:
		return 0, false
	}
	n := 0
	if offset != "" {
		var err error
		if n, err = strconv.Atoi(offset); err != nil || n < 0 {
			return 0, false
		}
	}
	n = base + sign*n
	return syscall.Signal(n), n >= first && n <= last
}
