package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"mica/internal/sys"

	"golang.org/x/sys/unix"
)

// observation is the state of a peer's server at one time.
type observation struct {
	there    bool
	cpu      time.Duration
	rssKB    int64
	requests map[string]float64 // nil where the server does not say
}

// observeBefore looks at the servers of the mount before the passes: the clock comes last, so that the time it takes to
// write the counts is not taken for the passes' own.
func (e *env) observeBefore() observation {
	requests := e.askStats()
	o := e.observeClocks()
	o.requests = requests
	return o
}

// observeAfter looks at the servers after the passes, the clock first.
func (e *env) observeAfter() observation {
	o := e.observeClocks()
	o.requests = e.askStats()
	return o
}

func (e *env) observeClocks() observation {
	o := observation{there: len(e.servers) > 0}
	for _, pid := range e.servers {
		o.cpu += cpuTime(pid)
		o.rssKB += residentKB(pid)
	}
	return o
}

// since puts what happened since an earlier observation into a sample, per pass.
func (o observation) since(before observation, passes int, s *sample) {
	if !o.there {
		return
	}
	s.ServerCPU = (o.cpu - before.cpu).Seconds() / float64(passes)
	s.ServerKB = o.rssKB
	if o.requests == nil || before.requests == nil {
		return
	}
	s.Requests = map[string]float64{}
	for op, n := range o.requests {
		if d := n - before.requests[op]; d > 0 {
			s.Requests[op] = d / float64(passes)
		}
	}
}

// serverStats is the file that a server writes on SIGUSR1.
type serverStats struct {
	Requests map[string]float64 `json:"requests"`
}

func (e *env) statsFile() string { return filepath.Join(e.t.Scratch, "stats.json") }

// askStats makes the server write its counts and reads them; nil when it does not.
func (e *env) askStats() map[string]float64 {
	if !e.t.Peer.hasStats() {
		return nil
	}
	if err := os.Remove(e.statsFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil
	}
	asked := false
	for _, pid := range e.servers {
		if handlesUSR1(pid) {
			asked = unix.Kill(pid, unix.SIGUSR1) == nil || asked
		}
	}
	if !asked {
		return nil
	}
	var st serverStats
	err := settle("read the server's counts", func() error {
		raw, err := os.ReadFile(e.statsFile())
		if err != nil {
			return err
		}
		return json.Unmarshal(raw, &st)
	})
	if err != nil {
		return nil
	}
	if st.Requests == nil {
		st.Requests = map[string]float64{}
	}
	return st.Requests
}

// handlesUSR1 says whether a process catches SIGUSR1, which would end it otherwise.
func handlesUSR1(pid int) bool {
	caught, err := strconv.ParseUint(statusField(pid, "SigCgt:"), 16, 64)
	return err == nil && caught&(1<<(unix.SIGUSR1-1)) != 0
}

// cpuTime is the processor time of a process, of all its threads: from its clock, to the nanosecond, else from
// /proc/PID/stat in clock ticks.
func cpuTime(pid int) time.Duration {
	const cpuClockSched = 2 // CPUCLOCK_SCHED of <linux/posix-timers.h>
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuClockSched), &ts); err == nil {
		return time.Duration(ts.Nano())
	}
	f := sys.ProcStat(pid)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64) // the kernel wrote the numbers
	system, _ := strconv.ParseInt(f[12], 10, 64)
	const tick = time.Second / 100
	return time.Duration(user+system) * tick
}

// residentKB is the resident memory of a process.
func residentKB(pid int) int64 {
	n, _ := strconv.ParseInt(statusField(pid, "VmRSS:"), 10, 64) // a process that is gone has none
	return n
}

func statusField(pid int, name string) string {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(raw) {
		if f := strings.Fields(string(line)); len(f) > 1 && f[0] == name {
			return f[1]
		}
	}
	return ""
}

// alive says whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	f := sys.ProcStat(pid)
	return len(f) > 0 && f[0] != "Z" && f[0] != "X"
}

// descendants lists the running processes below one.
func descendants(root int) []int {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	children := map[int][]int{}
	for _, n := range names {
		pid, err := strconv.Atoi(filepath.Base(n))
		if err != nil {
			continue
		}
		if f := sys.ProcStat(pid); len(f) > 1 && f[0] != "Z" {
			parent, _ := strconv.Atoi(f[1]) // the kernel wrote the number
			children[parent] = append(children[parent], pid)
		}
	}
	var all []int
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		all = append(all, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return all
}
