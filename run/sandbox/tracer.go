package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"mica/run/sandbox/ids"
)

// tracerName is argv[0] of the tracer: see ids.Trace.
const tracerName = "mica-tracer"

// What the tracer begins with: its connections with init, and the memory of the table of credentials.
const (
	attachFD = 3 + iota
	questionsFD
	tableFD
)

// tracerClient is init's end of the connection to the tracer, which the supervisor starts when it is first needed.
type tracerClient struct {
	supervisor *conn
	shared     int                 // the memory of the table of credentials
	answer     func(questions int) // answers the tracer's questions

	mu   sync.Mutex
	conn int // -1: there is no tracer (any more)
}

// attach has a thread traced and returns when it cannot run on unseen, or not at all.
func (t *tracerClient) attach(tid int, sight ids.Sight) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range 2 { // the tracer may have been killed, from outside
		if t.conn < 0 && t.start() != nil {
			return false
		}
		attached, err := ids.Attach(t.conn, tid, sight)
		if err == nil {
			return attached
		}
		unix.Close(t.conn)
		t.conn = -1
	}
	return false
}

// start has the supervisor start the tracer.
func (t *tracerClient) start() error {
	var own, its []int
	defer func() { closeAll(its) }()
	for range 2 {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			closeAll(own)
			return fmt.Errorf("connect with tracer: %w", err)
		}
		own, its = append(own, pair[0]), append(its, pair[1])
	}
	err := unix.SetsockoptInt(its[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
	if err == nil {
		err = ids.Greet(own[0])
	}
	if err == nil {
		err = t.supervisor.send(&message{Op: opTracer}, its[0], its[1], t.shared)
	}
	if err != nil {
		closeAll(own)
		return fmt.Errorf("start tracer: %w", err)
	}
	t.conn = own[0]
	go t.answer(own[1])
	return nil
}

// trace runs a tracer to its end with the descriptors that init wants it to have. There is one at a time.
func (s *Sandbox) trace(fds []int) {
	s.tracing.Lock()
	defer s.tracing.Unlock()
	attr := &os.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=2", "GODEBUG=containermaxprocs=0,updatemaxprocs=0"}, Files: make([]*os.File, attachFD),
		Sys: &syscall.SysProcAttr{Setsid: true},
	}
	for _, fd := range fds {
		attr.Files = append(attr.Files, os.NewFile(uintptr(fd), tracerName))
	}
	p, err := os.StartProcess("/proc/self/exe", []string{tracerName}, attr)
	for _, f := range attr.Files[attachFD:] {
		f.Close()
	}
	if err == nil { // else init sees that its connection has ended
		_, _ = p.Wait()
	}
}

// tracerMain is the tracer process.
func tracerMain() {
	NameProcess(tracerName)
	runtime.LockOSThread()
	err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	if err == nil {
		err = ids.Trace(attachFD, questionsFD, tableFD)
	}
	if err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}
