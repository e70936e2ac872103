package fs

import (
	"runtime"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"mica/internal/turns"
)

// While requests come from one thread, one close after the other, the worker
// binds itself to the processor where that thread runs: the two then take
// turns on it, and neither has to be woken elsewhere (see package turns).
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
	pid   uint32 // the thread that sent the last request, if the kernel tells
	run   int    // requests of it that came one close after the other
	need  int    // what a run must reach to bind for it; 0 is nearRun
	due   bool   // it is time to look where the client runs
	place turns.Place
}

// ProcessesAt says in which mount of proc(5) the processes are found that use
// the mount. Without it workers run where the kernel puts them.
func (s *Server) ProcessesAt(dir string) {
	p, err := turns.OpenProcesses(dir)
	if err != nil {
		return
	}
	s.devMu.Lock()
	defer s.devMu.Unlock()
	if s.closed || !s.procs.CompareAndSwap(nil, p) {
		p.Close()
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
			near.place.Leave(p)
		}
		near.pid, near.run, near.due = w.hdr.Pid, 0, false
		return
	}
	if w.idle > nearGap {
		return
	}
	if in := body[fuse.ReadIn](w); w.hdr.Opcode == opRead && in != nil && in.Size >= largeRead {
		near.place.Leave(p)
		near.run, near.due = 0, false
		return
	}
	near.run++
	if near.run >= nearCheck && w.s.opt.Awake {
		w.s.companion.Keep()
	}
	near.due = near.due || near.run == max(near.need, nearRun) || near.run%nearCheck == 0
	if near.due && !w.mayBeInExec() {
		near.place.Follow(p, near.pid)
		near.due = false
	}
}

// mayBeInExec tells whether the client may have sent a request in the middle of execve(2), where the kernel closes its files and
// gives up its memory, and writes back what is dirty. Whoever reads the stat file of such a process waits until it has done
// with that: the server would wait for a client that waits for the server.
func (w *worker) mayBeInExec() bool {
	switch w.hdr.Opcode {
	case opSetattr, opFlush, opFsync:
		return true
	case opWrite:
		in := body[fuse.WriteIn](w)
		return in != nil && in.WriteFlags&fuse.WRITE_CACHE != 0
	}
	return false
}

// unlock gives the worker's thread back to the scheduler of Go.
func (w *worker) unlock() {
	if p := w.s.procs.Load(); p != nil {
		w.near.place.Leave(p)
	}
	runtime.UnlockOSThread()
}
