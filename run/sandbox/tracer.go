package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"mica/run/sandbox/ids"
)

// tracerName is argv[0] of the tracer: see ids.Trace.
const tracerName = "mica-tracer"

// tableFD is where the tracer has the memory of the table of credentials.
const tableFD = controlFD + 1

// tracerClient is init's end of the connection to the tracer, which it starts when it is first needed.
type tracerClient struct {
	token  string
	shared int // the memory of the table of credentials

	mu     sync.Mutex
	conn   int   // valid once tried, unless failed
	tried  bool  // there was an attempt to start
	failed error // why there is no tracer: what it would correct stays uncorrected
}

// ready starts the tracer if it has not been tried before. spawn calls it before it executes a program that will be traced:
// while it does, nobody else can start a process.
func (t *tracerClient) ready() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.readyLocked()
}

func (t *tracerClient) readyLocked() error {
	if !t.tried {
		t.tried = true
		t.failed = t.start()
	}
	return t.failed
}

// attach has a thread traced and returns when it cannot run on unseen.
func (t *tracerClient) attach(tid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readyLocked() != nil {
		return
	}
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(tid))
	_, err := unix.Write(t.conn, b[:])
	for err == nil {
		var n int
		if n, err = unix.Read(t.conn, b[:1]); n == 1 {
			return
		}
		if errors.Is(err, unix.EINTR) {
			err = nil
		} else if err == nil {
			err = unix.EPIPE
		}
	}
	t.failed = fmt.Errorf("talk to tracer: %w", err)
	unix.Close(t.conn)
}

// start starts the tracer. It is a child of init that init's reaper takes care of.
func (t *tracerClient) start() error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(pair[1])
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(pair[0])
		return err
	}
	defer unix.Close(null)
	_, err = syscall.ForkExec("/proc/self/exe", []string{tracerName}, &syscall.ProcAttr{
		Env:   []string{"GOMAXPROCS=2", "GODEBUG=containermaxprocs=0,updatemaxprocs=0"},
		Files: []uintptr{uintptr(null), uintptr(null), 2, uintptr(pair[1]), uintptr(t.shared)},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err == nil {
		_, err = unix.Write(pair[0], append([]byte{byte(len(t.token))}, t.token...))
	}
	if err != nil {
		unix.Close(pair[0])
		return fmt.Errorf("start tracer: %w", err)
	}
	t.conn = pair[0]
	return nil
}

// tracerMain is the tracer process.
func tracerMain() {
	NameProcess(tracerName)
	runtime.LockOSThread()
	err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	var size [1]byte
	var token []byte
	conn := os.NewFile(controlFD, "init")
	if err == nil {
		_, err = io.ReadFull(conn, size[:])
	}
	if err == nil {
		token = make([]byte, size[0])
		_, err = io.ReadFull(conn, token)
	}
	if err == nil {
		err = ids.Trace(controlFD, tableFD, string(token))
	}
	runtime.KeepAlive(conn) // its end would close the descriptor
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
