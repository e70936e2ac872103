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

// supervisorName is argv[0] of a supervisor; see [SupervisorMain].
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
	conn, err := spawn(c.Path(), c.Lock.File(), &c.Config.Host)
	if err != nil {
		return nil, err
	}
	err = conn.SendJSON(control.KindRequest, control.Request{Op: control.OpStart, Start: req})
	if err == nil {
		err = conn.Expect(control.KindOK, nil)
	}
	if err != nil {
		conn.Close()
		if errors.Is(err, control.ErrGone) {
			err = fmt.Errorf("start the container: %w%s", err, lastWords(c.Path()))
		}
		return nil, err
	}
	return conn, nil
}

// Restart starts a container that has been started before, or was only made.
func (e *Engine) Restart(ctx context.Context, c *record.Container, attach *control.Attach) (*control.Conn, error) {
	lock, err := c.Lock()
	if err != nil {
		return nil, fmt.Errorf("start container %s: %w", c.Config.Name, err)
	}
	var lowers []string
	if c.Config.ImageID != "" {
		if _, lowers, err = e.base(ctx, c.Config.ImageID); err != nil {
			lock.Release()
			return nil, fmt.Errorf("start container %s: %w", c.Config.Name, err)
		}
	}
	return e.start(&Created{c, lock, lowers}, &control.Start{
		Root: e.root, Lowers: lowers, Attach: attach, Restart: !c.State.StartedAt.IsZero(),
	})
}

// spawn starts a supervisor in a session of its own, so that it survives the
// terminal, and gives this end of its first connection.
func spawn(dir string, lock *os.File, host *record.HostConfig) (*control.Conn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "supervisor"), os.NewFile(uintptr(fds[1]), "command")
	defer theirs.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	defer null.Close()
	log, err := os.OpenFile(filepath.Join(dir, supervisorLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	defer log.Close()
	path, args, err := limited("/proc/self/exe", []string{supervisorName, dir}, host)
	if err != nil {
		ours.Close()
		return nil, err
	}
	p, err := os.StartProcess(path, args, &os.ProcAttr{
		Dir:   "/",
		Files: []*os.File{null, null, log, theirs, lock},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the supervisor: %w", err)
	}
	_ = p.Release() // it outlives this process
	return control.NewConn(ours), nil
}

// lastWords is the last line that a supervisor left behind, if any.
func lastWords(dir string) string {
	data, err := os.ReadFile(filepath.Join(dir, supervisorLog))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(bytes.TrimSpace(data))) {
		if line = strings.TrimSpace(line); line != "" {
			return ": " + line
		}
	}
	return ""
}
