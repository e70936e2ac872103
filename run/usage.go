package run

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
	"mica/run/record"
)

// Usage is what the processes of a container take of the machine.
type Usage struct {
	At             time.Time
	CPU            time.Duration // so far
	Memory, Limit  int64         // bytes of their own; what there is for them
	Processes      int
	Read, Written  int64 // bytes from and to disks, by the processes that run
	OwnNetwork     bool  // else nothing is known of the following
	Received, Sent int64 // bytes
}

// Usage looks at the processes of a running container.
func (e *Engine) Usage(c *record.Container) (*Usage, error) {
	pids, err := e.Pids(c)
	if err != nil {
		return nil, err
	}
	u := &Usage{At: time.Now(), Processes: len(pids), Limit: c.Config.Host.Memory}
	if u.Limit == 0 {
		var memory unix.Sysinfo_t
		if err := unix.Sysinfo(&memory); err != nil {
			return nil, fmt.Errorf("ask for the machine's memory: %w", err)
		}
		u.Limit = int64(memory.Totalram) * int64(memory.Unit)
	}
	// Init has the time of all that have ended.
	for _, pid := range append(pids, c.State.PID) {
		u.add(pid, pid == c.State.PID)
	}
	if u.OwnNetwork = !c.Config.Host.SharesNetwork(); u.OwnNetwork {
		u.addNetwork(fmt.Sprintf("/proc/%d/net/dev", c.State.PID))
	}
	return u, nil
}

// cpuTick is the unit of times in /proc for every program, see proc_pid_stat(5).
const cpuTick = time.Second / 100

// add adds one process, as far as the kernel shows it: it may just have ended. Of init only the time counts.
func (u *Usage) add(pid int, init bool) {
	fields := sys.ProcStat(pid)
	for n := 11; n < 15 && n < len(fields); n++ { // utime, stime, and those of children that have been waited for
		ticks, _ := strconv.ParseInt(fields[n], 10, 64)
		u.CPU += time.Duration(ticks) * cpuTick
	}
	if init || len(fields) == 0 {
		return
	}
	proc := fmt.Sprintf("/proc/%d/", pid)
	if statm, err := os.ReadFile(proc + "statm"); err == nil {
		var size, resident, shared int64
		if _, err := fmt.Sscan(string(statm), &size, &resident, &shared); err == nil {
			u.Memory += (resident - shared) * int64(os.Getpagesize())
		}
	}
	if io, err := os.ReadFile(proc + "io"); err == nil {
		for line := range strings.Lines(string(io)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			n, _ := strconv.ParseInt(value, 10, 64)
			switch key {
			case "read_bytes":
				u.Read += n
			case "write_bytes":
				u.Written += n
			}
		}
	}
}

// addNetwork adds what the interfaces but the loopback have received and sent.
func (u *Usage) addNetwork(path string) {
	f, err := os.Open(path)
	if err != nil {
		return
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, counts, ok := strings.Cut(lines.Text(), ":")
		fields := strings.Fields(counts)
		if !ok || len(fields) < 9 || strings.TrimSpace(name) == "lo" {
			continue
		}
		received, _ := strconv.ParseInt(fields[0], 10, 64)
		sent, _ := strconv.ParseInt(fields[8], 10, 64)
		u.Received, u.Sent = u.Received+received, u.Sent+sent
	}
}
