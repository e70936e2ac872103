package ids

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mica/internal/idcall"
	"mica/internal/turns"
)

// A tracer is a process outside of the sandbox's pid namespace, where nobody in the sandbox can see or signal it: what it traces
// could not go on without it. It corrects what stat(2) shows to programs that copy or check owners (see SightOf), and to
// all that they start: where the one user stands for an owner that does not exist, it puts the recorded one. The server of the
// root marks such files by their block size (idcall.HiddenBlksize), so a result costs a look at memory and only those files a
// question, which init answers (Server.Answer): the files are inside.
//
// On other filesystems, as of volumes, owners are not recorded. There, what seems to belong to the one user belongs to whoever looks: a
// database that has its files in a volume insists on that.
//
// Programs that look at the users of processes, as ps(1), are told who those are meant to be (identify).
//
// A program is caught when it is executed. It gets a further seccomp filter, injected before its first instruction, that
// stops it for the calls of the stat and access families, and for those that may send credentials.
//
// Programs whose execution changes their credentials, as set-id bits do, are caught for that moment alone: only the kernel
// knows whether it will execute them, and nobody else may run with the credentials meanwhile.

// Trace is the tracer: it attaches to the threads that the connection names (Attach), and answers for each once the thread
// cannot run on unseen. It returns when init is gone. questions is the other connection with init, and shared the descriptor of the memory of a Table.
func Trace(conn, questions, shared int) error {
	t := &tracer{answers: answers{conn: questions}, filters: [...][]byte{Owners: tracedFilter(Owners), Processes: tracedFilter(Processes)}}
	hello, init, err := receiveThread(conn)
	if err == nil {
		t.depth = len(pidsOf(init))
	}
	if err == nil {
		t.foreign, err = newForeign(shared, hello)
	}
	if err != nil {
		return fmt.Errorf("meet init: %w", err)
	}
	signal.Ignore(unix.SIGCHLD) // each stop would send one, and the runtime wake a thread for it
	if t.procs, err = turns.OpenProcesses("/proc"); err == nil {
		defer t.procs.Close()
	}
	for {
		what, tid, err := receiveThread(conn)
		if err != nil || len(what) != 5 {
			return nil
		}
		attached := make(chan bool)
		th := &thread{fresh: true, sight: Sight(what[0]) % (Processes + 1), inside: int32(binary.NativeEndian.Uint32(what[1:]))}
		go t.trace(tid, th, attached)
		answer := []byte{0}
		if <-attached {
			answer[0] = 1
		}
		if _, err := unix.Write(conn, answer); err != nil {
			return fmt.Errorf("answer init: %w", err)
		}
	}
}

// Attach has a thread traced over a connection of Trace's, for its sight or, when that is plain, until it executes the program, and
// says whether it is: something else may do that already. The kernel tells the tracer what the thread's id is there.
func Attach(conn, tid int, sight Sight) (bool, error) {
	what := []byte{byte(sight)}
	if err := sendThread(conn, tid, binary.NativeEndian.AppendUint32(what, uint32(tid))); err != nil {
		return false, err
	}
	n, err := retry(func() (int, error) { return unix.Read(conn, what) })
	if err == nil && n != 1 {
		err = unix.EPIPE
	}
	return err == nil && what[0] == 1, err
}

// sendThread sends a packet about a thread.
func sendThread(conn, tid int, data []byte) error {
	who := unix.UnixCredentials(&unix.Ucred{Pid: int32(tid), Uid: uint32(unix.Getuid()), Gid: uint32(unix.Getgid())})
	_, err := retry(func() (int, error) { return unix.SendmsgN(conn, data, who, nil, unix.MSG_NOSIGNAL) })
	return err
}

// receiveThread receives one.
func receiveThread(conn int) (data []byte, tid int, err error) {
	data = make([]byte, 256)
	who := make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	var room int
	n, err := retry(func() (n int, err error) {
		n, room, _, _, err = unix.Recvmsg(conn, data, who, unix.MSG_CMSG_CLOEXEC)
		return
	})
	if err != nil {
		return nil, 0, err
	}
	msgs, err := unix.ParseSocketControlMessage(who[:room])
	if err != nil || len(msgs) != 1 {
		return nil, 0, unix.EPIPE
	}
	cred, err := unix.ParseUnixCredentials(&msgs[0])
	if err != nil {
		return nil, 0, err
	}
	return data[:n], int(cred.Pid), nil
}

// pidsOf are the ids of a thread from this process's pid namespace to its own; see proc_pid_status(5).
func pidsOf(tid int) []string {
	return strings.Fields(statusField(unix.AT_FDCWD, "/proc/"+strconv.Itoa(tid)+"/status", "NSpid:"))
}

// inside is the id of a thread in the sandbox; 0 when it is gone, or was never there.
func (t *tracer) inside(tid int) int32 {
	ids := pidsOf(tid)
	if t.depth == 0 || len(ids) < t.depth {
		return 0
	}
	n, _ := strconv.ParseInt(ids[t.depth-1], 10, 32)
	return int32(n)
}

type tracer struct {
	answers answers
	foreign *foreign
	depth   int                   // of the sandbox's pid namespace
	filters [Processes + 1][]byte // to be injected

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
	fresh    bool  // has been caught before it executes a program
	executed bool  // executes that program
	sight    Sight // for which it was caught; Plain: it is not to be traced any more when it does
	inside   int32 // its id in the sandbox, 0 until it is asked for
	call     registers
	lent     []loan // what a call has in the thread's memory until its end
}

// ptrace makes a request that package unix has no function for.
func ptrace(request, tid int, data uintptr) error {
	if _, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, data, 0, 0); e != 0 {
		return e
	}
	return nil
}

// seize attaches to a thread, which has the id inside in the sandbox, and has it stop.
func (t *tracer) seize(tid int, inside int32) error {
	if err := ptrace(unix.PTRACE_SEIZE, tid, traceOptions); err != nil {
		return err
	}
	// From here on the id is not given to another one, as it could have been before.
	if t.inside(tid) != inside {
		_ = unix.PtraceInterrupt(tid)
		_, _ = syscall.Wait4(tid, nil, unix.WALL|unix.WNOTHREAD, nil)
		_ = unix.PtraceDetach(tid)
		return unix.ESRCH
	}
	return unix.PtraceInterrupt(tid)
}

// follows says whether one of this process's threads traces a thread already.
func follows(tid int) bool {
	tracer := statusField(unix.AT_FDCWD, "/proc/"+strconv.Itoa(tid)+"/status", "TracerPid:")
	return tracer != "" && tracer != "0" && unix.Access("/proc/self/task/"+tracer, 0) == nil
}

// trace attaches to a thread and follows it and what it starts to their ends, from a thread of its own: only that one may
// make requests, and it sees only what it traces.
func (t *tracer) trace(tid int, th *thread, attached chan<- bool) {
	runtime.LockOSThread()
	// The thread must not end with its goroutine: the companion may be its child, and would end as well.
	defer runtime.UnlockOSThread()
	err := t.seize(tid, th.inside)
	attached <- err == nil || follows(tid)
	if err != nil {
		return
	}
	threads := map[int]*thread{tid: th}
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
			th := stopping(threads, tid, ws)
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

// stopping finds the thread that has stopped.
func stopping(threads map[int]*thread, tid int, ws syscall.WaitStatus) *thread {
	if int(ws)>>16 == unix.PTRACE_EVENT_EXEC {
		// It has become the first of its process.
		if former, err := unix.PtraceGetEventMsg(tid); err == nil && int(former) != tid && threads[int(former)] != nil {
			threads[tid] = threads[int(former)]
			threads[tid].inside = 0
			delete(threads, int(former))
		}
	}
	th := threads[tid]
	if th == nil {
		th = &thread{}
		threads[tid] = th
	}
	return th
}

// stopped deals with a stop and lets the thread go on. A request fails only when the thread was killed, which the next wait
// tells.
func (t *tracer) stopped(tid int, th *thread, ws syscall.WaitStatus) {
	signal, event := ws.StopSignal(), int(ws)>>16
	switch {
	case event == unix.PTRACE_EVENT_SECCOMP:
		if th.call.read(tid) == nil {
			th.lent = t.lend(tid, &th.call)
			_ = unix.PtraceSyscall(tid, 0) // to the end of the call
			return
		}
	case signal == unix.SIGTRAP|0x80:
		t.correct(tid, th)
	case event == unix.PTRACE_EVENT_STOP && signal != unix.SIGTRAP:
		_ = ptrace(unix.PTRACE_LISTEN, tid, 0) // a job control stop
		return
	case event == unix.PTRACE_EVENT_EXEC:
		t.answers.ask(&question{Kind: askExecuted, TID: t.id(tid, th)})
		if th.fresh && th.sight == Plain {
			_ = unix.PtraceDetach(tid)
			return
		}
		if th.fresh {
			th.executed = true
			_ = unix.PtraceInterrupt(tid) // the stop that was asked for before is forgotten over this one
		}
	case event == unix.PTRACE_EVENT_STOP:
		if th.fresh && !th.executed {
			// The program does not exist, as when a shell tries the directories of PATH. The thread may share its memory
			// with others that are not stopped, so leave it alone.
			t.answers.ask(&question{Kind: askRefused, TID: t.id(tid, th)})
			_ = unix.PtraceDetach(tid)
			return
		}
		if th.fresh {
			th.fresh = false
			for _, s := range t.inject(tid, t.filters[th.sight]) {
				_ = unix.Tgkill(tgid(tid), tid, s)
			}
		}
	case event == 0:
		_ = unix.PtraceCont(tid, int(signal))
		return
	}
	_ = unix.PtraceCont(tid, 0)
}

// id is a thread's id in the sandbox.
func (t *tracer) id(tid int, th *thread) int32 {
	if th.inside == 0 {
		th.inside = t.inside(tid)
	}
	return th.inside
}

// correct makes the result of a call what it is to be.
func (t *tracer) correct(tid int, th *thread) {
	for _, l := range th.lent {
		_ = writeMemory(tid, l.at, l.was)
	}
	th.lent = nil
	if q := accessCall(&th.call); q != nil {
		t.deny(tid, th, q)
		return
	}
	if th.call.number() == unix.SYS_READ {
		t.identify(tid, th)
		return
	}
	c := statCall(&th.call)
	if c == nil {
		return
	}
	var room [statSize]byte
	buf := room[:c.layout.size]
	if n, e := readMemory(tid, c.buffer, buf); e != 0 || n != len(buf) {
		return
	}
	foreign := t.foreign.has(c.layout, buf)
	process := t.foreign.isProcess(c.layout, buf)
	if !foreign && !process && !c.layout.hidden(buf) {
		return
	}
	var after registers
	if after.read(tid) != nil || after.result() != 0 {
		return // what is there is the result of an earlier call
	}
	var changed bool
	switch {
	case foreign:
		changed = t.foreign.correct(c, buf, tid)
	case process:
		changed = t.told(c, buf, t.id(tid, th), askDirectory)
	default:
		if changed = t.told(c, buf, t.id(tid, th), askOwner); changed {
			c.layout.setBlksize(buf, idcall.ShownBlksize)
		}
	}
	if changed {
		_ = writeMemory(tid, c.buffer, buf)
	}
}

// told puts the owner that init tells into a result, and says whether it did.
func (t *tracer) told(c *stat, buf []byte, tid int32, kind uint32) bool {
	r := t.answers.ask(&question{Kind: kind, TID: tid, Dirfd: int32(c.dirfd), Flags: int32(c.flags), Path: c.path})
	if r.OK == 0 {
		return false
	}
	c.layout.setOwner(buf, r.UID, r.GID)
	return true
}
