package ids

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"mica/internal/idcall"
	"mica/internal/turns"
)

// A tracer is a process of its own beside init, because ptrace(2) and wait(2) belong together and init waits for others. It
// corrects what stat(2) shows to programs that copy or check owners (see ReadsOwners), and to all that they start: where the one
// user stands for an owner that does not exist, it puts the recorded one. The server of the root marks such files
// by their block size (idcall.HiddenBlksize), so a result costs a look at memory and only those files a question.
//
// On other filesystems, as of volumes, owners are not recorded. There, what seems to belong to the one user belongs to whoever looks: a
// database that has its files in a volume insists on that.
//
// A program is caught when it is executed. It gets a further seccomp filter, injected before its first instruction, that
// stops it for the calls of the stat family and nothing else.

// Trace is the tracer: it attaches to the threads whose ids come over the connection, four bytes each, and answers each with a
// byte once the thread cannot run on unseen (or cannot be traced: something else does). shared is the descriptor of the memory
// of a Table. It returns when init is gone.
func Trace(conn, shared int, token string) error {
	files, err := RootFiles(token)
	if err != nil {
		return err
	}
	others, err := newForeign(shared)
	if err != nil {
		return err
	}
	r, err := newResolver()
	if err != nil {
		return err
	}
	signal.Ignore(unix.SIGCHLD) // each stop would send one, and the runtime wake a thread for it
	t := &tracer{files: files, foreign: others, resolver: r, filter: statFilter()}
	if t.procs, err = turns.OpenProcesses("/proc"); err == nil {
		defer t.procs.Close()
	}
	for {
		var tid [4]byte
		n, err := unix.Read(conn, tid[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != len(tid) || err != nil {
			return nil
		}
		attached := make(chan struct{})
		go t.trace(int(binary.NativeEndian.Uint32(tid[:])), attached)
		<-attached
		if _, err := unix.Write(conn, []byte{0}); err != nil {
			return fmt.Errorf("answer init: %w", err)
		}
	}
}

type tracer struct {
	files    Files
	foreign  *foreign
	resolver *resolver
	filter   []byte // of injected filters

	procs     *turns.Processes // nil: tracers run where the kernel puts them
	companion turns.Companion
}

const (
	// followEvery is after how many stops of one thread a tracer looks where it runs.
	followEvery = 8
	// awakeAfter is after how many stops it is worth to keep processors awake.
	awakeAfter = 64
)

const traceOptions = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACESECCOMP | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACEFORK |
	unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_TRACECLONE

// thread is a traced thread.
type thread struct {
	fresh    bool // has no filter yet
	executed bool // executes the program that it was caught before
	call     registers
}

// ptrace makes a request that package unix has no function for.
func ptrace(request, tid int, data uintptr) error {
	if _, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, data, 0, 0); e != 0 {
		return e
	}
	return nil
}

// trace attaches to a thread and follows it and what it starts to their ends, from a thread of its own: only that one may
// make requests, and it sees only what it traces.
func (t *tracer) trace(tid int, attached chan<- struct{}) {
	runtime.LockOSThread()
	// The thread must not end with its goroutine: the companion may be its child, and would end as well.
	defer runtime.UnlockOSThread()
	err := ptrace(unix.PTRACE_SEIZE, tid, traceOptions)
	if err == nil {
		err = unix.PtraceInterrupt(tid)
	}
	close(attached)
	if err != nil {
		return
	}
	threads := map[int]*thread{tid: {fresh: true}}
	var place turns.Place
	if t.procs != nil {
		defer place.Leave(t.procs)
	}
	last, run := tid, 0 // the thread that stopped last, and how often in a row
	for stops := 1; ; stops++ {
		var ws syscall.WaitStatus
		tid, err := syscall.Wait4(-1, &ws, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return // nobody is left
		case ws.Stopped():
			th := threads[tid]
			if th == nil {
				th = &thread{}
				threads[tid] = th
			}
			if run++; tid != last {
				last, run = tid, 0
			} else if run%followEvery == 0 && t.procs != nil {
				place.Follow(t.procs, uint32(tid))
			}
			if stops > awakeAfter {
				t.companion.Keep()
			}
			t.stopped(tid, th, ws)
		default:
			delete(threads, tid)
		}
	}
}

// stopped deals with a stop and lets the thread go on. A request fails only when the thread was killed, which the next wait
// tells.
func (t *tracer) stopped(tid int, th *thread, ws syscall.WaitStatus) {
	signal, event := ws.StopSignal(), int(ws)>>16
	switch {
	case event == unix.PTRACE_EVENT_SECCOMP:
		if th.call.read(tid) == nil {
			_ = unix.PtraceSyscall(tid, 0) // to the end of the call
			return
		}
	case signal == unix.SIGTRAP|0x80:
		t.correct(tid, &th.call)
	case event == unix.PTRACE_EVENT_STOP && signal != unix.SIGTRAP:
		_ = ptrace(unix.PTRACE_LISTEN, tid, 0) // a job control stop
		return
	case event == unix.PTRACE_EVENT_EXEC:
		if th.fresh {
			th.executed = true
			_ = unix.PtraceInterrupt(tid) // the stop that was asked for before is forgotten over this one
		}
	case event == unix.PTRACE_EVENT_STOP:
		if th.fresh && !th.executed {
			// The program does not exist, as when a shell tries the directories of PATH. The thread may share its memory
			// with others that are not stopped, so leave it alone.
			_ = unix.PtraceDetach(tid)
			return
		}
		if th.fresh {
			th.fresh = false
			for _, s := range t.inject(tid) {
				_ = unix.Tgkill(tgid(tid), tid, s)
			}
		}
	case event == 0:
		_ = unix.PtraceCont(tid, int(signal))
		return
	}
	_ = unix.PtraceCont(tid, 0)
}

// correct puts the owner that is to be seen into the result of a call of the stat family.
func (t *tracer) correct(tid int, call *registers) {
	c := statCall(call)
	if c == nil {
		return
	}
	var room [statSize]byte
	buf := room[:c.layout.size]
	if n, e := readMemory(tid, c.buffer, buf); e != 0 || n != len(buf) {
		return
	}
	correction := t.recorded
	switch {
	case t.foreign.has(c.layout, buf):
		correction = t.foreign.correct
	case !c.layout.hidden(buf):
		return
	}
	var after registers
	if after.read(tid) != nil || after.result() != 0 {
		return // what is there is the result of an earlier call
	}
	if correction(c, buf, tid) {
		_ = writeMemory(tid, c.buffer, buf)
	}
}

// recorded puts the recorded owner of a file of the root into a result, and says whether it did.
func (t *tracer) recorded(c *stat, buf []byte, tid int) bool {
	fd, err := c.open(t.resolver, tid)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	uid, gid, ok, err := t.files.Owner(fd)
	if err != nil || !ok {
		return false
	}
	c.layout.setOwner(buf, uid, gid)
	c.layout.setBlksize(buf, idcall.ShownBlksize)
	return true
}
