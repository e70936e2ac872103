package limits

import (
	"fmt"

	"golang.org/x/sys/unix"

	"mica/run/record"
	"mica/run/sandbox"
)

// limitNumbers are the resource limits by their names in --ulimit.
var limitNumbers = map[string]int{
	"core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE,
	"locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
	"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

// KnownUlimit tells whether --ulimit has a limit of this name.
func KnownUlimit(name string) bool {
	_, ok := limitNumbers[name]
	return ok
}

// leastFiles is how many open files init may need beside those of a few commands that are being started.
const leastFiles = 64

// Rlimits puts --ulimit in the terms of the sandbox.
func Rlimits(list []record.Ulimit) ([]sandbox.Rlimit, error) {
	value := func(n int64) uint64 {
		if n < 0 {
			return unix.RLIM_INFINITY
		}
		return uint64(n)
	}
	var out []sandbox.Rlimit
	for _, u := range list {
		number, ok := limitNumbers[u.Name]
		if !ok {
			return nil, fmt.Errorf("there is no limit %q", u.Name)
		}
		if u.Name == "nofile" && u.Soft >= 0 && u.Soft < leastFiles {
			return nil, fmt.Errorf("--ulimit nofile=%d: the container's init is under it too, and needs %d", u.Soft, leastFiles)
		}
		out = append(out, sandbox.Rlimit{Resource: number, Soft: value(u.Soft), Hard: value(u.Hard)})
	}
	return out, nil
}
