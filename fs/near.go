package fs

import (
	"bytes"
	"runtime"
	"strconv"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// The scheduler wakes a server on another processor than its client's, which
// waits meanwhile: both processors go to sleep and are woken for every
// request. That takes several times as long as the request itself, and in a
// virtual machine ten times. So while requests come from one thread, one close
// after the other, the worker binds itself to the processor where that thread
// runs: the two then take turns on it, and neither has to be woken elsewhere.
//
// Large reads are the exception: the kernel asks for the next one while the
// client copies the last, so the two are faster at the same time, apart.

const (
	// nearGap is how soon after a reply the next request must come to belong
	// to a run.
	nearGap = 500 * time.Microsecond
	// nearRun is how many requests make a run that is worth to bind for.
	nearRun = 2
	// nearCheck is after how many requests of a run to look again where the
	// client runs.
	nearCheck = 64
	// shortRun is what a run must reach for the next one to be worth that: each
	// shorter one, as of several clients at the same time, doubles what the
	// next must reach, up to farRun, where the worker lets go.
	shortRun = 6
	farRun   = 256
	// largeRead is what the kernel asks for ahead of a client that reads in
	// sequence, in bytes.
	largeRead = 128 << 10
)

// nearness is what a worker knows of its clients, and where it is bound to.
type nearness struct {
	pid  uint32 // the thread that sent the last request, if the kernel tells
	run  int    // requests of it that came one close after the other
	need int    // what a run must reach to bind for it; 0 is nearRun
	cpu  int    // bound to, plus 1; 0: to none
}

// procDir finds the processes that send requests by the numbers in them.
type procDir struct {
	fd  int
	all unix.CPUSet // where the server may run
}

// ProcessesAt says in which mount of proc(5) the processes are found that use
// the mount. Without it workers run where the kernel puts them.
func (s *Server) ProcessesAt(dir string) {
	p := &procDir{}
	if runtime.NumCPU() < 2 || unix.SchedGetaffinity(0, &p.all) != nil {
		return
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	p.fd = fd
	s.devMu.Lock()
	defer s.devMu.Unlock()
	if s.closed || !s.procs.CompareAndSwap(nil, p) {
		unix.Close(fd)
	}
}

// approach binds the worker near the client whose request it has just read, or
// lets go. The goroutine must be locked to its thread.
func (w *worker) approach() {
	near, p := &w.near, w.s.procs.Load()
	if p == nil || w.hdr.Pid == 0 {
		return
	}
	if w.hdr.Pid != near.pid {
		if near.run >= shortRun {
			near.need = nearRun
		} else if near.need = min(max(near.need, nearRun)*2, farRun); near.need == farRun {
			w.release(p)
		}
		near.pid, near.run = w.hdr.Pid, 0
		return
	}
	if w.idle > nearGap {
		return
	}
	if in := body[fuse.ReadIn](w); w.hdr.Opcode == opRead && in != nil && in.Size >= largeRead {
		w.release(p)
		near.run = 0
		return
	}
	near.run++
	if near.run >= nearCheck && w.s.opt.Awake {
		w.s.companion.keep()
	}
	if near.run == max(near.need, nearRun) || near.run%nearCheck == 0 {
		if cpu := p.cpuOf(near.pid); cpu >= 0 && p.all.IsSet(cpu) && near.cpu != cpu+1 {
			var set unix.CPUSet
			set.Set(cpu)
			if unix.SchedSetaffinity(0, &set) == nil {
				near.cpu = cpu + 1
			}
		}
	}
}

// unlock gives the worker's thread back to the scheduler of Go.
func (w *worker) unlock() {
	if p := w.s.procs.Load(); p != nil {
		w.release(p)
	}
	runtime.UnlockOSThread()
}

// release lets the worker run anywhere again.
func (w *worker) release(p *procDir) {
	if w.near.cpu != 0 {
		w.near.cpu = 0
		_ = unix.SchedSetaffinity(0, &p.all)
	}
}

// cpuOf gives the processor where a thread ran last, -1 if that cannot be
// told: it is the 39th field of its stat file, the 37th after the name.
func (p *procDir) cpuOf(pid uint32) int {
	var buf [1024]byte
	name := strconv.AppendUint(buf[:0], uint64(pid), 10)
	fd, err := unix.Openat(p.fd, string(name)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	n, err := unix.Read(fd, buf[:])
	unix.Close(fd)
	if err != nil {
		return -1
	}
	_, rest, ok := bytes.Cut(buf[:n], []byte(") "))
	for field := 3; ok && field < 39; field++ {
		_, rest, ok = bytes.Cut(rest, []byte(" "))
	}
	if !ok {
		return -1
	}
	text, _, _ := bytes.Cut(rest, []byte(" "))
	cpu, err := strconv.Atoi(string(text))
	if err != nil {
		return -1
	}
	return cpu
}
