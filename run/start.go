package run

import (
	"context"
	"errors"
	"fmt"

	"mica/run/control"
	"mica/run/limits"
	"mica/run/record"
	"mica/run/supervise"
)

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
	w, err := e.supervisor(&c.Config.Host)
	if err != nil {
		return nil, err
	}
	return w.Start(c.Container, c.Lock, req)
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

// Use has the next start take a supervisor that waits; nil is none.
func (e *Engine) Use(w *supervise.Waiting) { e.waiting = w }

// supervisor gives a supervisor for a container: one that waits if there is one
// and it need not be started under limits.
func (e *Engine) supervisor(host *record.HostConfig) (*supervise.Waiting, error) {
	w := e.waiting
	e.waiting = nil
	if w != nil && !limits.Wanted(host) {
		return w, nil
	}
	if w != nil {
		w.Discard()
	}
	return supervise.Spawn(host)
}
