package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"mica/run/sandbox/ids"
)

// ErrEnded is returned for requests to a sandbox or process that has ended.
var ErrEnded = errors.New("sandbox has ended")

// Sandbox is a running sandbox. Its methods may be called from any goroutine.
type Sandbox struct {
	cfg    *Config  // immutable once set, before boot
	kind   initKind // immutable
	pid    int      // of init on the host; immutable after launch
	conn   *conn
	stderr int        // what init writes before it crashes
	maps   chan error // the outcome of the helpers that map ids
	main   *Process
	view   *ids.View // nil unless ids are emulated; immutable once set, before boot
	table  int       // descriptor of what it looks at; during the start

	done    chan struct{} // closed when all is over
	servers sync.WaitGroup
	readAll chan struct{} // closed when init has nothing more to say

	safeInit bool // the executable of init may be reached; immutable once init is launched

	mu       sync.Mutex
	procs    map[int]*Process // by number; started and not ended
	next     int              // next number
	reaped   bool             // init has been waited for
	serving  map[int]Server   // by number of the mount, see Config.server
	serveErr error            // of the first server that failed
	ended    bool             // no new processes
	proc     int              // descriptor of the sandbox's /proc plus one; 0: not known (any more)

	tracing sync.Mutex // while there is a tracer

	empty sync.Once // init has said that it is alone

	syncMu sync.Mutex    // one sync at a time
	syncs  int           // how many there were; guarded by syncMu
	synced chan *message // the answer to one
}

// Process is a process in a sandbox that was started by Start or Exec.
type Process struct {
	s       *Sandbox
	id      int
	pid     int      // inside; set before started delivers
	tty     *os.File // likewise
	started chan error
	exited  chan struct{}
	status  ExitStatus // valid once exited is closed
	err     error      // likewise
}

// Main returns the main process.
func (s *Sandbox) Main() *Process { return s.main }

// PID is the process id of init on the host. Its user namespace belongs to the sandbox.
func (s *Sandbox) PID() int { return s.pid }

// Wait waits until the sandbox has ended and its root filesystem is unmounted and returns how the main process ended. An
// error means that the sandbox broke or was killed; the status is then 137.
func (s *Sandbox) Wait() (ExitStatus, error) {
	<-s.done
	return s.main.status, s.main.err
}

// Kill ends the sandbox at once. It is no error when it has ended before.
func (s *Sandbox) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reaped {
		return nil
	}
	if err := unix.Kill(s.pid, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill sandbox: %w", err)
	}
	return nil
}

// Exec starts another process in the sandbox; ctx limits only the start. The error is a *StartError when the command is at
// fault and ErrEnded when the sandbox has ended.
func (s *Sandbox) Exec(ctx context.Context, spec *Spec) (*Process, error) {
	w, fds, err := s.wire(spec)
	if err != nil {
		return nil, err
	}
	p := s.newProcess()
	if p == nil {
		return nil, ErrEnded
	}
	err = s.conn.send(&message{Op: opStart, ID: p.id, Spec: w}, fds...)
	runtime.KeepAlive(spec) // its files
	if err != nil {
		s.drop(p.id)
		return nil, fmt.Errorf("start process: %w", err)
	}
	select {
	case err := <-p.started:
		if err != nil {
			return nil, err
		}
		return p, nil
	case <-ctx.Done():
		go func() { // it may still start: nobody wants it then
			if <-p.started == nil {
				p.Signal(syscall.SIGKILL)
				if p.tty != nil {
					p.tty.Close()
				}
			}
		}()
		return nil, ctx.Err()
	}
}

// PID is the process id inside the sandbox.
func (p *Process) PID() int { return p.pid }

// TTY is the master side of the process's terminal, nil without one. The caller closes it. A read gives EIO when every
// process on the terminal has ended.
func (p *Process) TTY() *os.File { return p.tty }

// Signal sends sig to the process (not to its group). It is ErrEnded when the process has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.exited:
		return ErrEnded
	default:
	}
	return p.s.conn.send(&message{Op: opSignal, ID: p.id, Signal: int(sig)})
}

// Resize sets the size of the process's terminal; its foreground processes get SIGWINCH.
func (p *Process) Resize(size Size) error {
	if p.tty == nil {
		return errors.New("resize terminal: the process has none")
	}
	rc, err := p.tty.SyscallConn()
	if err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	var ioctlErr error
	err = rc.Control(func(fd uintptr) {
		ioctlErr = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols})
	})
	if err = errors.Join(err, ioctlErr); err != nil {
		return fmt.Errorf("resize terminal: %w", err)
	}
	return nil
}

// Wait waits until the process has ended. An error means that the sandbox ended it, or that it is not known how it ended.
func (p *Process) Wait() (ExitStatus, error) {
	<-p.exited
	return p.status, p.err
}

// newProcess enters a process that is to be started; nil when the sandbox has ended.
func (s *Sandbox) newProcess() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	p := &Process{s: s, id: s.next, started: make(chan error, 1), exited: make(chan struct{})}
	s.procs[p.id] = p
	s.next++
	return p
}

// drop takes a process out and returns it, nil when it is not there (any more).
func (s *Sandbox) drop(id int) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.procs[id]
	delete(s.procs, id)
	return p
}

// read handles what init says until the control socket ends.
func (s *Sandbox) read() {
	defer close(s.readAll)
	for {
		m, fds, err := s.conn.recv()
		if err != nil {
			unix.Shutdown(s.conn.fd, unix.SHUT_RDWR) // after garbage: let init end
			return
		}
		if !s.handle(m, fds) {
			closeAll(fds)
		}
	}
}

// handle handles one message and says whether it took the descriptors.
func (s *Sandbox) handle(m *message, fds []int) bool {
	switch m.Op {
	case opFuse:
		return s.serve(m.ID, fds)
	case opTracer:
		if len(fds) != tableFD-attachFD+1 {
			return false
		}
		go s.trace(fds)
		return true
	case opProc:
		return len(fds) == 1 && s.setProc(fds[0])
	case opSynced:
		select {
		case s.synced <- m:
		default:
		}
	case opEmpty:
		s.empty.Do(func() {
			go func() {
				s.drain(endDrain)
				s.conn.send(&message{Op: opEnd})
			}()
		})
	case opStarted:
		s.mu.Lock()
		p := s.procs[m.ID]
		s.mu.Unlock()
		if p == nil || p.pid != 0 || m.PID <= 0 || len(fds) > 1 {
			return false
		}
		if len(fds) == 1 {
			unix.SetNonblock(fds[0], true) // so that Close wakes a reader
			p.tty = os.NewFile(uintptr(fds[0]), "terminal")
		}
		p.pid = m.PID
		p.started <- nil
		return true
	case opExit:
		if p := s.drop(m.ID); p != nil && m.Status != nil && p.pid != 0 {
			p.status = *m.Status
			close(p.exited)
		}
	case opError:
		if p := s.drop(m.ID); p != nil && p.pid == 0 {
			var err error = &StartError{Code: m.Code, Msg: m.Msg}
			if m.Code == 0 {
				err = errors.New(m.Msg)
			}
			p.started <- err
		}
	}
	return false
}

// setProc takes the descriptor of the sandbox's /proc, once.
func (s *Sandbox) setProc(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil || st.Type != unix.PROC_SUPER_MAGIC {
		return false // init may be anybody's by then
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc != 0 {
		return false
	}
	s.proc = fd + 1
	if s.view != nil {
		if own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			s.view.SetProc(own)
		}
	}
	return true
}

// Proc is a path to the sandbox's /proc, valid for this process until the sandbox has ended.
func (s *Sandbox) Proc() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("/proc/self/fd/%d", s.proc-1)
}

// finish settles everything once init has been reaped and the root is no longer served.
func (s *Sandbox) finish(ws syscall.WaitStatus) {
	var said [4096]byte
	unix.SetNonblock(s.stderr, true)
	n, _ := unix.Read(s.stderr, said[:])
	unix.Close(s.stderr)
	s.conn.close()
	if s.view != nil {
		s.view.Close()
	}
	s.mu.Lock()
	s.ended = true
	if s.proc != 0 {
		unix.Close(s.proc - 1)
		s.proc = 0
	}
	procs := s.procs
	s.procs = map[int]*Process{}
	err := s.serveErr
	s.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("serve filesystem: %w", err)
	} else if ws.Exited() && ws.ExitStatus() != 0 {
		err = fmt.Errorf("init of the sandbox failed: %s", strings.TrimSpace(string(said[:max(n, 0)])))
	} else {
		err = ErrEnded
	}
	for _, p := range procs {
		p.status, p.err = ExitStatus{Code: 137, Signal: int(unix.SIGKILL)}, err
		if p.pid == 0 {
			p.started <- err
		}
		close(p.exited)
	}
	close(s.done)
}
