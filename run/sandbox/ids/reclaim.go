package ids

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// reclaimTries is how often the processes are looked at until none has begun meanwhile.
const reclaimTries = 100

// reclaim finds the numbers that no process has any more, if it can. The caller holds mu, so that a number comes to a further
// process by fork alone. Programs whose exec is pending (execs) have their former credentials noted without a number.
func (t *Table) reclaim() {
	for range reclaimTries {
		held, ok := t.held()
		if !ok {
			continue
		}
		for c, n := range t.numbers {
			if !held[n] {
				delete(t.numbers, c)
				t.free = append(t.free, n)
			}
		}
		return
	}
}

// held tells which numbers processes have. It is false if it may have missed one.
func (t *Table) held() (held [maxEntries]bool, ok bool) {
	before := lastProcess(t.proc)
	fd, err := unix.Openat(t.proc, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if before == "" || err != nil {
		return held, false
	}
	dir := os.NewFile(uintptr(fd), "/proc")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return held, false
	}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		var l unix.Rlimit
		err = unix.Prlimit(pid, Resource, nil, &l)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return held, false
		}
		if n, ok := numberIn(l.Cur); ok && n < maxEntries {
			held[n] = true
		}
	}
	return held, lastProcess(t.proc) == before
}

// lastProcess is the number of the process or thread that began last, which /proc/loadavg ends with; see proc_loadavg(5). It
// counts in the pid namespace of the reader, and empty stands for an error.
func lastProcess(proc int) string {
	load := strings.Fields(readWhole(proc, "loadavg"))
	if len(load) == 0 {
		return ""
	}
	return load[len(load)-1]
}
