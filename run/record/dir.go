package record

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/atomicfile"
	"mica/internal/names"
	"mica/internal/sys"
)

// The errors that callers tell apart with [errors.Is].
var (
	ErrNotFound  = errors.New("no such container")
	ErrAmbiguous = errors.New("several containers have an ID that begins so")
	ErrNameInUse = errors.New("name is in use")
)

const (
	newPrefix  = ".new-"
	gonePrefix = ".gone-"
	namesDir   = "names"
	removeMark = "rm" // in the directory of a container that is removed when it has ended
)

// Dir is the directory of all containers.
type Dir struct{ path string }

// Open opens the directory of containers and makes it if there is none.
func Open(path string) (*Dir, error) {
	if err := os.MkdirAll(filepath.Join(path, namesDir), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of containers: %w", err)
	}
	return &Dir{path}, nil
}

// Path is where the directory is.
func (d *Dir) Path() string { return d.path }

// NewID makes up an ID.
func NewID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// Create makes a container and holds its lock. An empty ID or name is made up
// and entered in cfg. When it fails, nothing is left behind.
func (d *Dir) Create(cfg *Config) (_ *Container, _ *Lock, err error) {
	if cfg.Name != "" {
		if err := CheckName(cfg.Name); err != nil {
			return nil, nil, err
		}
		if _, err := d.byName(cfg.Name); err == nil {
			return nil, nil, d.nameInUse(cfg.Name)
		}
	}
	if cfg.ID == "" {
		cfg.ID = NewID()
	}
	made := cfg.Name == ""
	if made {
		cfg.Name = names.Random(0)
	}
	stage := filepath.Join(d.path, newPrefix+cfg.ID)
	if err := os.Mkdir(stage, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make the container's directory: %w", err)
	}
	final := filepath.Join(d.path, cfg.ID)
	place := stage
	defer func() {
		if err != nil {
			os.RemoveAll(place)
		}
	}()
	lock, err := acquire(filepath.Join(stage, "lock"))
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			lock.Release()
		}
	}()
	c := &Container{Config: cfg, State: State{Status: Created}, dir: stage}
	for _, sub := range []string{c.Upper(), c.Work()} {
		if err := os.Mkdir(sub, 0o700); err != nil {
			return nil, nil, fmt.Errorf("make the container's directory: %w", err)
		}
	}
	if cfg.Host.AutoRemove {
		if err := os.WriteFile(filepath.Join(stage, removeMark), nil, 0o600); err != nil {
			return nil, nil, fmt.Errorf("mark the container for removal: %w", err)
		}
	}
	if err := os.Rename(stage, final); err != nil {
		return nil, nil, fmt.Errorf("put the container in place: %w", err)
	}
	place, c.dir = final, final
	if err := d.linkNew(cfg, made); err != nil {
		return nil, nil, err
	}
	// The configuration comes last: a directory without one is no container yet.
	if err := c.WriteState(); err != nil {
		d.unlink(cfg.Name, cfg.ID)
		return nil, nil, err
	}
	if err := c.writeConfig(); err != nil {
		d.unlink(cfg.Name, cfg.ID)
		return nil, nil, err
	}
	if c.lasts() {
		if err := d.sync(); err != nil {
			d.unlink(cfg.Name, cfg.ID)
			return nil, nil, err
		}
	}
	return c, lock, nil
}

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

// sync makes the places and names of containers last.
func (d *Dir) sync() error {
	if err := errors.Join(atomicfile.SyncDir(filepath.Join(d.path, namesDir)), atomicfile.SyncDir(d.path)); err != nil {
		return fmt.Errorf("make the container last: %w", err)
	}
	return nil
}

func (d *Dir) nameInUse(name string) error {
	id, _ := os.Readlink(d.namePath(name))
	return fmt.Errorf("%w: %q belongs to container %.12s; remove or rename that one, or choose another name", ErrNameInUse, name, id)
}

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

// Find looks a container up by name, ID or unique beginning of an ID.
func (d *Dir) Find(ref string) (*Container, error) {
	if ref != "" && CheckName(ref) == nil || len(ref) == 1 {
		if c, err := d.byName(ref); err == nil {
			return c, nil
		}
	}
	if !isHex(ref) || len(ref) > 64 {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, ref)
	}
	ids, err := d.ids()
	if err != nil {
		return nil, err
	}
	found := ""
	for _, id := range ids {
		if strings.HasPrefix(id, ref) {
			if found != "" {
				return nil, fmt.Errorf("%w: %s", ErrAmbiguous, ref)
			}
			found = id
		}
	}
	if found == "" {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, ref)
	}
	return d.load(found)
}

// List gives all containers, the newest first.
func (d *Dir) List() ([]*Container, error) {
	ids, err := d.ids()
	if err != nil {
		return nil, err
	}
	list := make([]*Container, 0, len(ids))
	for _, id := range ids {
		c, err := d.load(id)
		if errors.Is(err, ErrNotFound) {
			continue // removed meanwhile, or not made yet
		}
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Config.Created.After(list[j].Config.Created) })
	return list, nil
}

func (d *Dir) ids() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if isID(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// Tidy clears away what crashes have left: containers that were never
// finished or never quite removed, and those that were to be removed when they ended but lost
// their supervisor; gone hears of these. It is cheap where there is nothing to do.
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
		if c, err := d.load(name); err == nil && c.Config.Host.AutoRemove && c.State.Status == Dead {
			if lock, err := c.Lock(); err == nil && c.Remove(lock) == nil {
				gone(c.Config)
			}
		}
	}
	return d.tidyNames(there)
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

func (d *Dir) has(id, file string) bool {
	_, err := os.Lstat(filepath.Join(d.path, id, file))
	return err == nil
}

// tidyLeftover removes a directory that nobody holds.
func (d *Dir) tidyLeftover(name string) {
	if lock := d.lockLeftover(name); lock != nil {
		defer lock.Release()
		os.RemoveAll(filepath.Join(d.path, name))
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
		os.RemoveAll(path) // whoever made it was never told that it is there
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

func (d *Dir) load(id string) (*Container, error) { return Load(filepath.Join(d.path, id)) }

// Load reads the container in dir.
func Load(dir string) (*Container, error) {
	c := &Container{dir: dir}
	var err error
	c.Config, err = readConfig(dir)
	switch {
	case errors.Is(err, os.ErrNotExist) && c.unwritten():
		return nil, fmt.Errorf("%w: %s", ErrNotFound, filepath.Base(dir))
	case errors.Is(err, os.ErrNotExist):
		c.lost(errMissing)
	case errors.Is(err, errDamaged):
		c.lost(err)
	case err != nil:
		return nil, fmt.Errorf("read container: %w", err)
	}
	if err := c.Refresh(); err != nil {
		return nil, err
	}
	return c, nil
}

// configName is the file of a container's configuration.
const configName = "config.json"

// errDamaged says that a configuration does not parse, errMissing that there is none.
var (
	errDamaged = errors.New(configName + " is damaged")
	errMissing = errors.New(configName + " is missing")
)

func readConfig(dir string) (*Config, error) {
	data, err := os.ReadFile(filepath.Join(dir, configName))
	if err != nil {
		return nil, err
	}
	c := new(Config)
	if err := json.Unmarshal(data, c); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return c, nil
}

// unwritten tells that nothing is in the container's layer.
func (c *Container) unwritten() bool {
	entries, err := os.ReadDir(c.Upper())
	return err == nil && len(entries) == 0 || errors.Is(err, os.ErrNotExist)
}

// lost makes the best of a container whose configuration cannot be had, as after a failure of the disk.
func (c *Container) lost(err error) {
	parent, id := filepath.Split(c.dir)
	c.Config = &Config{ID: id, Name: (&Dir{filepath.Clean(parent)}).nameOf(id)}
	c.Broken = fmt.Errorf("its %w: what it wrote is in %s; take what you need and remove it with \"mica rm %.12s\"", err, c.Upper(), id)
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

func isID(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}
