package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/names"
	"mica/internal/sys"
)

// linkNew enters the name of a container that is made. One that nobody has asked for is made up until it is free.
func (d *Dir) linkNew(cfg *Config, anyName bool) error {
	unlock, err := d.lockNames()
	if err != nil {
		return err
	}
	defer unlock()
	for attempt := 1; ; attempt++ {
		err := d.link(cfg.Name, cfg.ID)
		if err == nil || !anyName || !errors.Is(err, ErrNameInUse) || attempt > 100 {
			return err
		}
		cfg.Name = names.Random(attempt)
	}
}

func (d *Dir) nameInUse(name string) error {
	id, _ := os.Readlink(d.namePath(name))
	return fmt.Errorf("%w: %q belongs to container %.12s; remove or rename that one, or choose another name", ErrNameInUse, name, id)
}

// PlainName is the name of a container that may be spelt with a slash before it, as Docker shows it.
func PlainName(name string) string { return strings.TrimPrefix(name, "/") }

// CheckName tells whether a name is one that a container may have.
func CheckName(name string) error { return names.Check("container", name) }

func (d *Dir) namePath(name string) string { return filepath.Join(d.path, namesDir, name) }

// lockNames keeps others from giving names.
func (d *Dir) lockNames() (unlock func(), err error) {
	dir, err := os.Open(filepath.Join(d.path, namesDir))
	if err == nil {
		if err = sys.Retry(func() error { return unix.Flock(int(dir.Fd()), unix.LOCK_EX) }); err != nil {
			dir.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock the names of containers: %w", err)
	}
	return func() { dir.Close() }, nil
}

// link gives the name to a container that is in place. The caller holds the names' lock.
func (d *Dir) link(name, id string) error {
	for range 3 {
		err := os.Symlink(id, d.namePath(name))
		if !errors.Is(err, os.ErrExist) {
			if err != nil {
				return fmt.Errorf("enter the container's name: %w", err)
			}
			return nil
		}
		if _, err := d.byName(name); err == nil {
			break
		}
		// Left over from a crash: the container behind it is gone.
		if other, err := os.Readlink(d.namePath(name)); err == nil {
			if _, err := os.Lstat(filepath.Join(d.path, other)); err == nil {
				break // being made right now
			}
			os.Remove(d.namePath(name))
		}
	}
	return d.nameInUse(name)
}

// unlink takes the name away where it still is this container's.
func (d *Dir) unlink(name, id string) {
	if target, err := os.Readlink(d.namePath(name)); err == nil && target == id {
		os.Remove(d.namePath(name))
	}
}

func (d *Dir) byName(name string) (*Container, error) {
	id, err := os.Readlink(d.namePath(name))
	if err != nil || !isID(id) {
		return nil, ErrNotFound
	}
	c, err := d.load(id)
	if err != nil {
		return nil, err
	}
	if c.Config.Name != name {
		return nil, ErrNotFound // a rename that was cut off
	}
	return c, nil
}

// nameOf finds the name that leads to a container, or else shortens the ID.
func (d *Dir) nameOf(id string) string {
	entries, _ := os.ReadDir(filepath.Join(d.path, namesDir))
	for _, e := range entries {
		if target, err := os.Readlink(d.namePath(e.Name())); err == nil && target == id {
			return e.Name()
		}
	}
	return id[:min(len(id), 12)]
}
