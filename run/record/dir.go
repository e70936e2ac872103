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

	"mica/internal/atomicfile"
	"mica/internal/imageref"
	"mica/internal/names"
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
	removeMark = "rm" // in the directory of a container that is removed when it has ended; locked by the build that it is for
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
		cfg.Name = PlainName(cfg.Name)
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
	// It is the container's root where there is no layer, and users in it pass there. Whoever passes here is decided further up.
	if err := os.Chmod(c.Upper(), 0o755); err != nil {
		return nil, nil, fmt.Errorf("make the container's directory: %w", err)
	}
	if cfg.Volatile() {
		mark, err := acquire(filepath.Join(stage, removeMark))
		if err != nil {
			return nil, nil, fmt.Errorf("mark the container for removal: %w", err)
		}
		if cfg.Step != "" {
			c.kept = mark
		} else {
			mark.Release()
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

// sync makes the places and names of containers last.
func (d *Dir) sync() error {
	if err := errors.Join(atomicfile.SyncDir(filepath.Join(d.path, namesDir)), atomicfile.SyncDir(d.path)); err != nil {
		return fmt.Errorf("make the container last: %w", err)
	}
	return nil
}

// Find looks a container up by name, ID or unique beginning of an ID.
func (d *Dir) Find(ref string) (*Container, error) {
	if name := PlainName(ref); name != "" && CheckName(name) == nil {
		if c, err := d.byName(name); err == nil {
			return c, nil
		}
	}
	if !imageref.CanBeID(ref) {
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

func (d *Dir) has(id, file string) bool {
	_, err := os.Lstat(filepath.Join(d.path, id, file))
	return err == nil
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

// lost makes the best of a container whose configuration cannot be had, as after a failure of the disk.
func (c *Container) lost(err error) {
	parent, id := filepath.Split(c.dir)
	c.Config = &Config{ID: id, Name: (&Dir{filepath.Clean(parent)}).nameOf(id)}
	c.Broken = fmt.Errorf("its %w: what it wrote is in %s; take what you need and remove it with \"mica rm %.12s\"", err, c.Upper(), id)
}

func isID(s string) bool { return len(s) == 64 && imageref.CanBeID(s) }
