package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"mica/internal/atomicfile"
	"mica/internal/sys"
)

// Tidy clears away what crashes have left: containers that were never
// finished or never quite removed, those that were to be removed when they ended but lost
// their supervisor, and those of builds that are gone; gone hears of these. It is cheap where there is nothing to do.
func (d *Dir) Tidy(gone func(*Config)) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	there := make(map[string]bool)
	for _, e := range entries {
		name := e.Name()
		there[name] = true
		if strings.HasPrefix(name, newPrefix) || strings.HasPrefix(name, gonePrefix) {
			d.tidyLeftover(name)
			continue
		}
		if !isID(name) {
			continue
		}
		if !d.has(name, configName) {
			d.tidyUnfinished(name)
			continue
		}
		if !d.has(name, removeMark) {
			continue
		}
		if c, err := d.load(name); err == nil && c.leftBehind() {
			if lock, err := c.Lock(); err == nil && c.Remove(lock) == nil {
				gone(c.Config)
			}
		}
	}
	return d.tidyNames(there)
}

// leftBehind tells that a container should be gone by now: the supervisor that was to remove it has died, or the build whose step
// it is for.
func (c *Container) leftBehind() bool {
	if c.Config.Step != "" && !c.State.Alive() {
		kept, err := held(filepath.Join(c.dir, removeMark))
		return err == nil && !kept
	}
	return c.Config.Host.AutoRemove && c.State.Status == Dead
}

// tidyNames takes away names that lead to nothing, and all but the last that a rename which was cut off has left to a
// container. Which directories there are is known from a moment ago.
func (d *Dir) tidyNames(there map[string]bool) error {
	links, err := os.ReadDir(filepath.Join(d.path, namesDir))
	if err != nil {
		return fmt.Errorf("list the names of containers: %w", err)
	}
	named := make(map[string]int)
	for _, l := range links {
		id, _ := os.Readlink(d.namePath(l.Name()))
		named[id]++
		if !there[id] || named[id] > 1 {
			return d.mendNames()
		}
	}
	return nil
}

// mendNames does what tidyNames has found to do.
func (d *Dir) mendNames() error {
	unlock, err := d.lockNames()
	if err != nil {
		return err
	}
	defer unlock()
	links, err := os.ReadDir(filepath.Join(d.path, namesDir))
	if err != nil {
		return fmt.Errorf("list the names of containers: %w", err)
	}
	for _, l := range links {
		id, err := os.Readlink(d.namePath(l.Name()))
		if err != nil {
			continue
		}
		_, err = os.Lstat(filepath.Join(d.path, id))
		cfg, cfgErr := readConfig(filepath.Join(d.path, id))
		if errors.Is(err, os.ErrNotExist) || cfgErr == nil && cfg.Name != l.Name() {
			d.unlink(l.Name(), id)
		}
	}
	return nil
}

// tidyLeftover removes a directory that nobody holds.
func (d *Dir) tidyLeftover(name string) {
	if lock := d.lockLeftover(name); lock != nil {
		defer lock.Release()
		sys.RemoveAll(filepath.Join(d.path, name))
	}
}

// tidyUnfinished removes a directory without a configuration: no container yet, unless it has what one has written. Then the
// configuration is taken that was about to be put in place.
func (d *Dir) tidyUnfinished(id string) {
	lock := d.lockLeftover(id)
	if lock == nil {
		return
	}
	defer lock.Release()
	path := filepath.Join(d.path, id)
	config := filepath.Join(path, configName)
	written, err := os.ReadFile(config + atomicfile.Suffix)
	switch {
	case d.has(id, removeMark), (&Container{dir: path}).unwritten():
		sys.RemoveAll(path) // whoever made it was never told that it is there
	case err == nil && json.Valid(written):
		_ = os.Rename(config+atomicfile.Suffix, config)
	}
}

// How long a directory may take to be locked by who makes it, from its own making and from that of the file for the lock.
const (
	lockTime     = time.Minute
	lockFileTime = 2 * time.Second
)

// lockLeftover locks a directory that nobody holds, else it gives none. One that is young may be in the hands of a process
// that has not yet locked it.
func (d *Dir) lockLeftover(name string) *Lock {
	path := filepath.Join(d.path, name)
	st, err := os.Stat(path)
	if err != nil {
		return nil
	}
	young := lockTime
	if d.has(name, "lock") {
		young = lockFileTime
	}
	if time.Since(st.ModTime()) < young && !strings.HasPrefix(name, gonePrefix) {
		return nil
	}
	lock, err := acquire(filepath.Join(path, "lock"))
	if err != nil {
		return nil
	}
	return lock
}

// unwritten tells that nothing is in the container's layer.
func (c *Container) unwritten() bool {
	entries, err := os.ReadDir(c.Upper())
	return err == nil && len(entries) == 0 || errors.Is(err, os.ErrNotExist)
}
