package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"mica/run/control"
	"mica/run/record"
	"mica/run/supervise"
)

// dial connects to the supervisor of a container, which has to run.
func dial(c *record.Container) (*control.Conn, error) {
	conn, err := dialAlive(context.Background(), c)
	if err == nil && conn == nil {
		err = fmt.Errorf("container %s is not running: start it with \"mica start %s\"", c.Config.Name, c.Config.Name)
	}
	return conn, err
}

// Attach connects to the streams of a running container.
func (e *Engine) Attach(c *record.Container, att *control.Attach) (*control.Conn, error) {
	conn, err := dial(c)
	if err != nil {
		return nil, err
	}
	if err := conn.Ask(control.Request{Op: control.OpAttach, Attach: att}, nil); err != nil {
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
	if err := conn.Ask(control.Request{Op: control.OpExec, Exec: x}, nil); err != nil {
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
	err = conn.Ask(control.Request{Op: control.OpSignal, Signal: int(sig)}, nil)
	if err != nil && !errors.Is(err, control.ErrGone) { // gone: it ended before it could say so
		return err
	}
	if sig == syscall.SIGKILL {
		return e.waitEnd(c)
	}
	return nil
}

// waitEnd waits until a container that was killed has ended.
func (e *Engine) waitEnd(c *record.Container) error {
	_, err := e.wait(context.Background(), c, true)
	if errors.Is(err, record.ErrNotFound) {
		return nil
	}
	return err
}

// StopOptions say how [Engine.Stop] ends a container.
type StopOptions struct {
	Signal  int      // 0: the container's own
	Timeout *float64 // seconds before it is killed; nil: the container's own limit, negative: none
	Keep    bool     // it is started again: do not remove it though it was made to be removed when it ends
}

// Stop asks a container to end and waits for that. One that does not run is left alone.
func (e *Engine) Stop(ctx context.Context, c *record.Container, opt StopOptions) error {
	conn, err := dialAlive(ctx, c)
	if conn == nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err = conn.Ask(control.Request{Op: control.OpStop, Signal: opt.Signal, Timeout: opt.Timeout, Keep: opt.Keep}, nil)
	if errors.Is(err, control.ErrGone) && ctx.Err() == nil {
		return nil // it ended before it could say so
	}
	return err
}

// turnover is how long a container may take to start or to end, once that is under way.
const turnover = 10 * time.Second

// dialAlive connects to the supervisor of a container, nil if it does not run. One that is just starting does not listen yet,
// and one that is just ending does not any more.
func dialAlive(ctx context.Context, c *record.Container) (*control.Conn, error) {
	for deadline := time.Now().Add(turnover); ; {
		if err := c.Refresh(); err != nil || !c.State.Alive() {
			return nil, err
		}
		conn, err := control.Dial(c.Path())
		if err == nil || time.Now().After(deadline) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Wait waits until a container has ended and gives its exit code, also if it is
// removed then, or started again.
func (e *Engine) Wait(ctx context.Context, c *record.Container) (int, error) {
	return e.wait(ctx, c, false)
}

// wait is Wait that can wait until it has ended for good.
func (e *Engine) wait(ctx context.Context, c *record.Container, forGood bool) (int, error) {
	if err := c.Refresh(); err != nil {
		return 0, err
	}
	if !c.State.Alive() {
		return c.State.ExitCode, nil
	}
	conn, err := dialAlive(ctx, c)
	if err == nil && conn != nil {
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		if err = conn.SendJSON(control.KindRequest, control.Request{Op: control.OpWait, ForGood: forGood}); err == nil {
			var exit control.Exit
			if err = conn.Expect(control.KindExit, &exit); err == nil {
				return exit.Code, nil
			}
		}
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	// It ended between the look and the answer.
	if refreshErr := c.Refresh(); refreshErr != nil {
		return 0, refreshErr
	}
	if c.State.Alive() {
		return 0, err
	}
	return c.State.ExitCode, nil
}

// SetPaused stops all processes of a running container, or lets them go on.
func (e *Engine) SetPaused(c *record.Container, paused bool) error {
	conn, err := dial(c)
	if err != nil {
		return err
	}
	defer conn.Close()
	op := control.OpUnpause
	if paused {
		op = control.OpPause
	}
	return conn.Ask(control.Request{Op: op}, nil)
}

// Pids lists the processes of a running container as the host numbers them.
func (e *Engine) Pids(c *record.Container) ([]int, error) {
	conn, err := dial(c)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	var list control.PidList
	err = conn.Ask(control.Request{Op: control.OpPids}, &list)
	return list.Pids, err
}

// RemoveOptions say how far [Engine.Remove] goes.
type RemoveOptions struct {
	Force   bool // kill the container first if it runs
	Volumes bool // and its anonymous volumes
}

// Remove deletes a container.
func (e *Engine) Remove(ctx context.Context, c *record.Container, opt RemoveOptions) error {
	lock, err := e.lockStopped(ctx, c)
	for err == nil && lock == nil {
		if !opt.Force {
			return fmt.Errorf("container %s is running: stop it first, or remove it with -f", c.Config.Name)
		}
		supervise.Wake(c)
		zero := 0.0
		if err = e.Stop(ctx, c, StopOptions{Signal: int(syscall.SIGKILL), Timeout: &zero}); err == nil {
			lock, err = e.lockStopped(ctx, c)
		}
	}
	if errors.Is(err, record.ErrNotFound) && opt.Force {
		return nil // its supervisor, or somebody else, has removed it
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.HomeApplying()); err == nil && !opt.Force {
		lock.Release()
		return fmt.Errorf("remove container %s: some of its changes are in %s already, since the last \"mica home apply\" was cut off; "+
			"run that again to finish, or remove it with -f", c.Config.Name, c.Config.Host.Desktop.HomeDir)
	}
	if err := c.Remove(lock); err != nil {
		return err
	}
	if opt.Volumes || c.Config.Host.AutoRemove {
		if err := e.RemoveAnonymous(c.Config); err != nil {
			return err
		}
	}
	return e.settleVolumes(c.Config)
}

// SetRestart gives a container, also one that runs, another restart policy.
func (e *Engine) SetRestart(c *record.Container, p record.RestartPolicy) error {
	if c.Broken != nil {
		return c.Broken
	}
	if c.Config.Host.AutoRemove && p.String() != "no" {
		return errors.New("the container is removed when it ends: no restart policy goes with that")
	}
	return e.Containers.SetRestart(c, p)
}
