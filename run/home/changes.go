package home

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"mica/cow"
	"mica/internal/sys"
	"mica/run/control"
	"mica/run/record"
)

// Diff calls fn for every path that a container has changed in its home
// directory, where that is a union.
func Diff(ctx context.Context, c *record.Container, fn func(control.DiffItem) error) error {
	if err := c.Refresh(); err != nil {
		return err
	}
	if !IsUnion(c.Config) {
		return noUnion(c)
	}
	if _, err := os.Lstat(c.HomeWork()); errors.Is(err, os.ErrNotExist) {
		return nil // never started
	}
	dir := c.Config.Host.Desktop.HomeDir
	if c.State.Alive() {
		if err := syncRunning(c); err != nil {
			return err
		}
	}
	t, err := openUnion(c, true)
	if err != nil {
		return err
	}
	err = t.Union.Changes(ctx, func(ch *cow.Change) error {
		if ch.Path == "." {
			return nil
		}
		return fn(control.DiffItem{Kind: ch.Kind.String(), Path: path.Join(dir, ch.Path)})
	})
	return errors.Join(err, t.Close())
}

// syncRunning has what programs of a running container have put into mapped
// pages written. A container that ends meanwhile does it itself.
func syncRunning(c *record.Container) error {
	conn, err := control.Dial(c.Path())
	if err != nil {
		return nil
	}
	defer conn.Close()
	if err := conn.Ask(control.Request{Op: control.OpSync}, nil); err != nil && !errors.Is(err, control.ErrGone) {
		return err
	}
	return nil
}

func noUnion(c *record.Container) error {
	return fmt.Errorf("container %s has no home directory of which changes are known: that takes \"mica run --home cow\"", c.Config.Name)
}

// lockChanges takes the lock of a container that must not run, and whose home
// directory is a union.
func lockChanges(c *record.Container, what string) (*record.Lock, error) {
	if err := c.Refresh(); err != nil {
		return nil, err
	}
	if !IsUnion(c.Config) {
		return nil, noUnion(c)
	}
	lock, err := c.Lock()
	if errors.Is(err, record.ErrLocked) {
		return nil, fmt.Errorf("%s the changes of container %s: it is running; stop it first with \"mica stop %s\"", what, c.Config.Name, c.Config.Name)
	}
	return lock, err
}

// Discard throws away what a container that does not run has changed in its
// home directory.
func Discard(c *record.Container) error {
	lock, err := lockChanges(c, "discard")
	if err != nil {
		return err
	}
	defer lock.Release()
	if _, err := os.Lstat(c.HomeApplying()); err == nil {
		return fmt.Errorf("discard the changes of container %s: some are in %s already, since the last \"mica home apply\" was cut off; "+
			"run that again to finish", c.Config.Name, c.Config.Host.Desktop.HomeDir)
	}
	return dropChanges(c)
}

// dropChanges puts the changes out of sight, then deletes them. The lock is held.
func dropChanges(c *record.Container) error {
	gone, err := os.MkdirTemp(c.Path(), "home-gone-")
	if err != nil {
		return fmt.Errorf("discard the changes: %w", err)
	}
	// The work directory goes last: without it there is nothing to see.
	for _, dir := range []string{c.HomeUpper(), c.HomeWork()} {
		if err := os.Rename(dir, filepath.Join(gone, filepath.Base(dir))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("discard the changes: %w", err)
		}
	}
	for _, file := range []string{c.HomeApplying(), c.HomeTried(), c.HomeStarts()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("discard the changes: %w", err)
		}
	}
	old, err := filepath.Glob(filepath.Join(c.Path(), "home-gone-*"))
	if err != nil {
		return err
	}
	for _, dir := range old {
		if err := sys.RemoveAll(dir); err != nil {
			return fmt.Errorf("delete discarded changes: %w", err)
		}
	}
	return nil
}
