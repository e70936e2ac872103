package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mica/run/control"
	"mica/run/limits"
	"mica/run/record"
)

// Name is argv[0] of a supervisor; see [Main].
const Name = "mica-supervisor"

// Flag does the same as a first argument, for a supervisor that systemd gives a
// cgroup of its own, by a program that does not let argv[0] be chosen.
const Flag = "--mica-supervisor"

// supervisorLog receives what a supervisor has to say when it crashes.
const supervisorLog = "supervisor.log"

// Waiting is a supervisor that has not been given a container yet.
type Waiting struct{ sock *os.File }

// Prepare starts a supervisor ahead of time: it gets ready while the caller
// still finds out what to start. It ends with this process unless it is given a container.
// Whatever is wrong is reported by the start itself.
func Prepare() *Waiting {
	w, _ := Spawn(nil)
	return w
}

// Spawn starts a supervisor in a session of its own, so that it survives the
// terminal. host says under which limits its container is to run, nil for none;
// the supervisor is not under them.
func Spawn(host *record.HostConfig) (*Waiting, error) {
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
	path, args := "/proc/self/exe", []string{Name}
	if host != nil && limits.Wanted(host) {
		if p, a, err := limits.Scope(Flag); err == nil {
			path, args = p, a
		} else if err := limits.Check(host); err != nil {
			ours.Close()
			return nil, err
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
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fail(err)
	}
	return &Waiting{ours}, nil
}

// Start has the supervisor start a container, and gives it the container's lock. The connection streams if the request asks for
// that; it ends with the container's exit code either way. After an error nothing runs.
func (w *Waiting) Start(c *record.Container, lock *record.Lock, req *control.Start) (*control.Conn, error) {
	said := saidBefore(c.Path())
	conn, err := w.adopt(lock.File())
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

// Discard ends a supervisor that is not needed.
func (w *Waiting) Discard() { w.sock.Close() }

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

// Wake lets a supervisor go on that a signal has stopped, and that could not do what it is asked.
func Wake(c *record.Container) {
	pid := c.State.Supervisor
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err == nil && strings.TrimSpace(string(name)) == Name {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}
