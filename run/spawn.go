package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mica/run/control"
	"mica/run/record"
)

// supervisorName is argv[0] of a supervisor; see [Main].
const supervisorName = "mica-supervisor"

// supervisorFlag does the same as a first argument, for when argv[0] cannot be chosen.
const supervisorFlag = "--mica-supervisor"

// supervisorLog receives what a supervisor has to say when it crashes.
const supervisorLog = "supervisor.log"

// Start starts a container that [Engine.Create] made, and gives up its lock
// to the supervisor. The connection streams if attach asks for it; it ends with the container's exit
// code either way. After an error nothing runs.
func (e *Engine) Start(c *Created, attach *control.Attach) (*control.Conn, error) {
	return e.start(c, &control.Start{Root: e.root, Lowers: c.Lowers, Attach: attach})
}

func (e *Engine) start(c *Created, req *control.Start) (*control.Conn, error) {
	defer c.Lock.Release()
	if c.Config.Host.AutoRemove {
		// From here on a container without a supervisor is to be removed.
		c.State.Status = record.Running
		if err := c.WriteState(); err != nil {
			return nil, err
		}
	}
	said := saidBefore(c.Path())
	w, err := e.supervisor(&c.Config.Host)
	if err != nil {
		return nil, err
	}
	conn, err := w.adopt(c.Lock.File())
	if err != nil {
		return nil, err
	}
	req.Dir = c.Path()
	err = conn.SendJSON(control.KindRequest, control.Request{Op: control.OpStart, Start: req})
	if err == nil {
		err = conn.Expect(control.KindOK, nil)
	}
	if err != nil {
		conn.Close()
		if errors.Is(err, control.ErrGone) {
			err = fmt.Errorf("start the container: %w%s", err, lastWords(c.Path(), said))
		}
		return nil, err
	}
	return conn, nil
}

// ErrRunning says that a container is running already.
var ErrRunning = errors.New("the container is running")

// Restart starts a container that has been started before, or was only made. [ErrRunning] says that it runs.
func (e *Engine) Restart(ctx context.Context, c *record.Container, attach *control.Attach) (*control.Conn, error) {
	lock, err := e.lockStopped(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("start container %s: %w", c.Config.Name, err)
	}
	if lock == nil {
		return nil, ErrRunning
	}
	lowers, err := e.layersOf(ctx, c)
	if err != nil {
		lock.Release()
		return nil, fmt.Errorf("start container %s: %w", c.Config.Name, err)
	}
	return e.start(&Created{c, lock, lowers}, &control.Start{
		Root: e.root, Lowers: lowers, Attach: attach, Restart: !c.State.StartedAt.IsZero(),
	})
}

// Waiting is a supervisor that has not been given a container yet.
type Waiting struct{ sock *os.File }

// Prepare starts a supervisor ahead of time: it gets ready while the caller
// still finds out what to start. It ends with this process unless [Engine.Use] gives it a container.
// Whatever is wrong is reported by the start itself.
func Prepare() *Waiting {
	w, _ := spawn(nil)
	return w
}

// Use has the next start take a supervisor that waits; nil is none.
func (e *Engine) Use(w *Waiting) { e.waiting = w }

// supervisor gives a supervisor for a container: one that waits if there is one
// and it need not be started under limits.
func (e *Engine) supervisor(host *record.HostConfig) (*Waiting, error) {
	w := e.waiting
	e.waiting = nil
	if w != nil && !hasLimits(host) {
		return w, nil
	}
	if w != nil {
		w.sock.Close()
	}
	return spawn(host)
}

// spawn starts a supervisor in a session of its own, so that it survives the
// terminal. host says under which limits, nil for none.
func spawn(host *record.HostConfig) (*Waiting, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "supervisor"), fds[1]
	defer unix.Close(theirs)
	fail := func(err error) (*Waiting, error) {
		ours.Close()
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	path, args := "/proc/self/exe", []string{supervisorName}
	sys := &syscall.SysProcAttr{Setsid: true}
	if host != nil && hasLimits(host) {
		if p, a, err := limited(host); err == nil {
			path, args = p, a
		} else if cgroup, err := limitedCgroup(host); err != nil {
			ours.Close()
			return nil, err
		} else {
			defer cgroup.Close()
			sys.UseCgroupFD, sys.CgroupFD = true, int(cgroup.Fd())
		}
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fail(err)
	}
	defer null.Close()
	// Not by package os, which forks once more to find out about pidfds.
	_, err = syscall.ForkExec(path, args, &syscall.ProcAttr{
		Dir: "/", Env: os.Environ(),
		Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), uintptr(theirs)},
		Sys:   sys,
	})
	if err != nil {
		return fail(err)
	}
	return &Waiting{ours}, nil
}

// adopt gives the container's lock to the supervisor.
func (w *Waiting) adopt(lock *os.File) (*control.Conn, error) {
	raw, err := w.sock.SyscallConn()
	if err == nil {
		rights := unix.UnixRights(int(lock.Fd()))
		var sendErr error
		err = raw.Write(func(fd uintptr) bool {
			sendErr = unix.Sendmsg(int(fd), []byte{0}, rights, nil, unix.MSG_NOSIGNAL)
			return sendErr != unix.EAGAIN
		})
		if err == nil {
			err = sendErr
		}
	}
	if err != nil {
		w.sock.Close()
		return nil, fmt.Errorf("hand the container to its supervisor: %w", err)
	}
	return control.NewConn(w.sock), nil
}

// receiveLock is the supervisor's side of adopt. It gives nil when the command
// has ended without having anything to start.
func receiveLock(sock *os.File) (*os.File, error) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil, err
	}
	buf, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	var recvErr error
	err = raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, recvErr = unix.Recvmsg(int(fd), buf, oob, unix.MSG_CMSG_CLOEXEC)
		return recvErr != unix.EAGAIN
	})
	if err == nil {
		err = recvErr
	}
	if err != nil || n == 0 {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("receive the container's lock: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("receive the container's lock: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "lock"), nil
}

// speakInto has what this process says when it crashes written to the
// container's directory.
func speakInto(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, supervisorLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the supervisor's log: %w", err)
	}
	defer f.Close()
	return unix.Dup3(int(f.Fd()), 2, 0)
}

// saidBefore is how much supervisors of the container have said until now.
func saidBefore(dir string) int64 {
	if fi, err := os.Stat(filepath.Join(dir, supervisorLog)); err == nil {
		return fi.Size()
	}
	return 0
}

// lastWords is what a supervisor left behind, if anything, after what others had said before: its first line, since a trace
// follows.
func lastWords(dir string, before int64) string {
	data, err := os.ReadFile(filepath.Join(dir, supervisorLog))
	if err != nil || int64(len(data)) < before {
		return ""
	}
	first, _, _ := strings.Cut(string(bytes.TrimSpace(data[before:])), "\n")
	if first == "" {
		return ""
	}
	return ": " + strings.TrimSpace(first)
}
