package sandbox

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"mica/internal/turns"
)

// Main must be the first thing that main (or TestMain) calls. In a process that Start made it becomes the init of the
// sandbox and does not return; in any other process it returns at once. The processes beside init are of this kind, too.
func Main() {
	turns.AwakeMain()
	if len(os.Args) != 1 {
		return
	}
	if os.Args[0] == tracerName {
		tracerMain()
	}
	if os.Args[0] != initName || os.Getpid() != 1 {
		return
	}
	NameProcess(initName)
	// This thread carries the parent-death signal.
	runtime.LockOSThread()
	i := &initProcess{conn: &conn{fd: controlFD}, procs: map[int]int{}, spawned: make(chan struct{}, 1), usual: make(chan struct{})}
	if err := i.run(); err != nil {
		i.conn.send(&message{Op: opError, Msg: err.Error()})
		os.Exit(1)
	}
	os.Exit(0)
}

// NameProcess is how ps(1) and top(1) show the process: not as the link that it was executed by.
func NameProcess(name string) {
	if b, err := unix.BytePtrFromString(name); err == nil {
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(b)), 0, 0, 0)
	}
}

// initProcess is process 1 of a sandbox.
type initProcess struct {
	conn  *conn
	setup *setup
	last  int // highest capability of the kernel
	pts   int // O_PATH descriptor of the sandbox's devpts
	null  int // the sandbox's /dev/null
	proc  int // O_PATH descriptor of the sandbox's /proc

	rootDev uint64 // device of the root

	usual   chan struct{} // closed when the usual signals are forwarded
	mainTTY *tty          // of the main process, until that takes it

	emulation *emulation // nil unless ids are emulated

	mu      sync.Mutex
	ending  bool          // no new processes
	procs   map[int]int   // process id -> process number
	spawned chan struct{} // there is (again) something to wait for
}

// run sets the sandbox up, starts the main process and serves requests until that has ended.
func (i *initProcess) run() error {
	if err := closeInherited(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask for parent-death signal: %w", err)
	}
	m, fds, err := i.conn.recv()
	if err != nil {
		return fmt.Errorf("read setup: %w", err)
	}
	if m.Op != opSetup || m.Setup == nil {
		return fmt.Errorf("read setup: unexpected %s message", m.Op)
	}
	i.setup = m.Setup
	i.last = lastCap()
	go i.forward(i.usual)
	if err := i.build(); err != nil {
		return err
	}
	if i.setup.Emulate {
		if len(fds) == 0 {
			return errors.New("read setup: the table of credentials is missing")
		}
		if err := i.startEmulation(fds[len(fds)-1]); err != nil {
			return err
		}
		fds = fds[:len(fds)-1]
	}
	i.start(0, &i.setup.Main, fds)
	go i.reap()
	for {
		m, fds, err := i.conn.recv()
		if err != nil { // the supervisor is gone
			unix.Kill(-1, unix.SIGKILL)
			return nil
		}
		switch m.Op {
		case opStart:
			go i.start(m.ID, m.Spec, fds)
		case opSignal:
			i.signal(m.ID, syscall.Signal(m.Signal))
		case opSync:
			go i.sync(m.ID)
		case opEnd:
			return nil
		default:
			closeAll(fds)
		}
	}
}

// closeInherited closes what the supervisor inherited from its own parent without close-on-exec.
func closeInherited() error {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("look for inherited descriptors: %w", err)
	}
	names, _ := dir.Readdirnames(-1)
	dir.Close()
	for _, name := range names {
		fd := 0
		for _, c := range name {
			fd = fd*10 + int(c-'0')
		}
		if fd <= controlFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
	unix.CloseOnExec(controlFD)
	return nil
}

// start starts a process and reports how that went. For the main process a failure is the end.
func (i *initProcess) start(id int, spec *wireSpec, fds []int) {
	done := make(chan error)
	go func() {
		// What is limited here is limited for this thread, which ends with the goroutine because it stays locked.
		runtime.LockOSThread()
		done <- i.startLocked(id, spec, fds)
	}()
	err := <-done
	closeAll(fds)
	if err == nil {
		select {
		case i.spawned <- struct{}{}:
		default:
		}
		return
	}
	if err == errEnding {
		return // the supervisor says so itself
	}
	answer := &message{Op: opError, ID: id, Msg: err.Error()}
	var se *StartError
	if errors.As(err, &se) {
		answer.Code = se.Code
	}
	i.conn.send(answer)
	if id == 0 {
		os.Exit(0)
	}
}

var errEnding = errors.New("the sandbox is ending")

// startLocked starts, enters and reports a process while nothing can be reaped, so that its start is reported before its end.
func (i *initProcess) startLocked(id int, spec *wireSpec, fds []int) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.ending {
		return errEnding
	}
	pid, master, err := i.spawn(spec, fds)
	if err != nil {
		return err
	}
	i.procs[pid] = id
	<-i.usual
	answer := &message{Op: opStarted, ID: id, PID: pid}
	if master < 0 {
		return i.conn.send(answer)
	}
	defer unix.Close(master)
	return i.conn.send(answer, master)
}

// reap waits for every child, its own and the orphans of the sandbox. It ends the sandbox with the main process.
func (i *initProcess) reap() {
	for {
		if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil); errors.Is(err, unix.ECHILD) {
			<-i.spawned
			continue
		}
		// Under the lock, so that a process is entered before it is missed, and signal does not hit a successor.
		i.mu.Lock()
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err != nil || pid == 0 {
			i.mu.Unlock()
			continue
		}
		id, mine := i.procs[pid]
		delete(i.procs, pid)
		i.mu.Unlock()
		if !mine {
			continue
		}
		st := &ExitStatus{Code: ws.ExitStatus()}
		if ws.Signaled() {
			st = &ExitStatus{Code: 128 + int(ws.Signal()), Signal: int(ws.Signal()), Core: ws.CoreDump()}
		}
		i.conn.send(&message{Op: opExit, ID: id, Status: st})
		if id == 0 {
			i.end()
			return
		}
	}
}

// end kills what is left in the sandbox, and has the servers finish before init goes, and the mounts with it: what processes
// had put into mapped pages may be on its way to them still.
func (i *initProcess) end() {
	i.mu.Lock()
	i.ending = true
	i.mu.Unlock()
	unix.Kill(-1, unix.SIGKILL)
	for {
		if _, err := syscall.Wait4(-1, nil, 0, nil); err == syscall.ECHILD {
			break
		}
	}
	i.conn.send(&message{Op: opEmpty})
}

// signal sends a signal to a process by its number. The lock keeps its process id from being given to another.
func (i *initProcess) signal(id int, sig syscall.Signal) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for pid, n := range i.procs {
		if n == id {
			unix.Kill(pid, sig)
		}
	}
}

// usualSignals are asked for before the main process is reported as started; the others follow in the background, because to
// ask for one costs two switches between threads.
var usualSignals = [...]syscall.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGWINCH, unix.SIGUSR1, unix.SIGUSR2,
}

// forward hands signals that init receives on to the main process. It closes usual once it does so for the usual ones.
func (i *initProcess) forward(usual chan<- struct{}) {
	signals := make(chan os.Signal, 64)
	go func() {
		for s := range signals {
			i.signal(0, s.(syscall.Signal))
		}
	}()
	for _, s := range usualSignals {
		signal.Notify(signals, s)
	}
	close(usual)
	for s := syscall.Signal(1); s <= 64; s++ {
		switch s {
		case unix.SIGKILL, unix.SIGSTOP, 32, 33: // the kernel's and the C library's
		case unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE: // about children, Go's scheduler, the control socket
		case unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGSYS, unix.SIGPROF: // init's own faults
		default:
			if !slices.Contains(usualSignals[:], s) {
				signal.Notify(signals, s)
			}
		}
	}
}
