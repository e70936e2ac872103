package run

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"mica/run/control"
	"mica/run/record"
)

// dial connects to the supervisor of a container that runs.
func dial(c *record.Container) (*control.Conn, error) {
	if err := c.Refresh(); err != nil {
		return nil, err
	}
	if !c.State.Alive() {
		return nil, fmt.Errorf("container %s is not running: start it with \"mica start %s\"", c.Config.Name, c.Config.Name)
	}
	return control.Dial(c.Path())
}

// Attach connects to the streams of a running container.
func (e *Engine) Attach(c *record.Container, att *control.Attach) (*control.Conn, error) {
	conn, err := dial(c)
	if err != nil {
		return nil, err
	}
	if err := ask(conn, control.Request{Op: control.OpAttach, Attach: att}, nil); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Exec starts a further process in a running container. The connection
// streams, and ends with the process's exit code.
func (e *Engine) Exec(c *record.Container, x *control.Exec) (*control.Conn, error) {
	conn, err := dial(c)
	if err != nil {
		return nil, err
	}
	if err := ask(conn, control.Request{Op: control.OpExec, Exec: x}, nil); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

// Signal sends a signal to the main process.
func (e *Engine) Signal(c *record.Container, sig syscall.Signal) error {
	conn, err := dial(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ask(conn, control.Request{Op: control.OpSignal, Signal: int(sig)}, nil); err != nil {
		return err
	}
	if sig == syscall.SIGKILL {
		return e.waitEnd(c)
	}
	return nil
}

// waitEnd waits until a container that was killed has ended.
func (e *Engine) waitEnd(c *record.Container) error {
	_, err := e.Wait(context.Background(), c)
	if errors.Is(err, record.ErrNotFound) {
		return nil
	}
	return err
}

// Stop asks a container to end and kills it after timeout seconds; nil is the
// container's own limit, a negative one is none. One that does not run is left alone.
func (e *Engine) Stop(ctx context.Context, c *record.Container, sig int, timeout *float64) error {
	if err := c.Refresh(); err != nil {
		return err
	}
	if !c.State.Alive() {
		return nil
	}
	conn, err := control.Dial(c.Path())
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err = ask(conn, control.Request{Op: control.OpStop, Signal: sig, Timeout: timeout}, nil)
	if errors.Is(err, control.ErrGone) && ctx.Err() == nil {
		return nil // it ended before it could say so
	}
	return err
}

// Wait waits until a container has ended and gives its exit code. One that
// was removed meanwhile has the code it ended with.
func (e *Engine) Wait(ctx context.Context, c *record.Container) (int, error) {
	if err := c.Refresh(); err != nil {
		return 0, err
	}
	if !c.State.Alive() {
		return c.State.ExitCode, nil
	}
	conn, err := control.Dial(c.Path())
	if err == nil {
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		if err = conn.SendJSON(control.KindRequest, control.Request{Op: control.OpWait}); err == nil {
			var exit control.Exit
			if err = conn.Expect(control.KindExit, &exit); err == nil {
				return exit.Code, nil
			}
		}
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	// It ended between the look and the question.
	if refreshErr := c.Refresh(); refreshErr != nil {
		return 0, refreshErr
	}
	if c.State.Alive() {
		return 0, err
	}
	return c.State.ExitCode, nil
}

// Pids lists the processes of a running container as the host numbers them.
func (e *Engine) Pids(c *record.Container) ([]int, error) {
	conn, err := dial(c)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var list control.PidList
	err = ask(conn, control.Request{Op: control.OpPids}, &list)
	return list.Pids, err
}

// RemoveOptions say how far [Engine.Remove] goes.
type RemoveOptions struct {
	Force   bool // kill the container first if it runs
	Volumes bool // and its anonymous volumes
}

// Remove deletes a container.
func (e *Engine) Remove(ctx context.Context, c *record.Container, opt RemoveOptions) error {
	if err := c.Refresh(); err != nil {
		return err
	}
	if c.State.Alive() {
		if !opt.Force {
			return fmt.Errorf("container %s is running: stop it first, or remove it with -f", c.Config.Name)
		}
		zero := 0.0
		if err := e.Stop(ctx, c, int(syscall.SIGKILL), &zero); err != nil {
			return err
		}
		if c.Config.Host.AutoRemove {
			return nil // the supervisor does it
		}
	}
	lock, err := c.Lock()
	if err != nil {
		return fmt.Errorf("remove container %s: %w", c.Config.Name, err)
	}
	if err := c.Remove(lock); err != nil {
		return err
	}
	if opt.Volumes || c.Config.Host.AutoRemove {
		if err := e.removeAnonymous(c.Config); err != nil {
			return err
		}
	}
	return e.settleVolumes(c.Config)
}
