// Package volume keeps named directories that containers mount and that outlive
// them.
//
//	volumes/NAME/_data         what is mounted
//	volumes/NAME/volume.json   when and how it was made
//	volumes/NAME/lock          held by those who use it; see [Hold]
//	volumes/NAME/filling       there while it is filled from an image; see [Volume.Fill]
//	volumes/NAME/owners        whose its directories are, while nobody uses it; see [Settle]
//
// A volume appears and disappears by one rename.
package volume

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
	ErrNotFound = errors.New("no such volume")
	ErrExists   = errors.New("volume exists already")
	ErrInUse    = errors.New("volume is in use")
)

// Volume is one volume.
type Volume struct {
	Name      string
	Created   time.Time
	Labels    map[string]string `json:",omitempty"`
	Anonymous bool              `json:",omitempty"`
	Data      string            `json:"-"` // the directory that is mounted
}

// Dir is the directory of all volumes.
type Dir struct{ path string }

// Open gives the volumes below path, which need not exist yet.
func Open(path string) *Dir { return &Dir{path} }

const dataDir = "_data"

func (d *Dir) make() error {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return fmt.Errorf("make the directory of volumes: %w", err)
	}
	return nil
}

// Create makes a volume. Without a name it is anonymous and gets one.
func (d *Dir) Create(name string, labels map[string]string) (*Volume, error) {
	v := &Volume{Name: name, Created: time.Now().UTC(), Labels: labels}
	if name == "" {
		v.Name, v.Anonymous = randomID(), true
	} else if err := CheckName(name); err != nil {
		return nil, err
	}
	if err := d.make(); err != nil {
		return nil, err
	}
	stage := filepath.Join(d.path, stagePrefix+randomID())
	defer os.RemoveAll(stage)
	if err := os.Mkdir(stage, 0o700); err != nil {
		return nil, fmt.Errorf("make volume %s: %w", v.Name, err)
	}
	if err := os.Mkdir(filepath.Join(stage, dataDir), 0o755); err != nil {
		return nil, fmt.Errorf("make volume %s: %w", v.Name, err)
	}
	if err := v.write(filepath.Join(stage, recordName)); err != nil {
		return nil, fmt.Errorf("make volume %s: %w", v.Name, err)
	}
	final := filepath.Join(d.path, v.Name)
	err := os.Rename(stage, final)
	if err != nil && d.empty(v.Name) {
		gone := filepath.Join(d.path, gonePrefix+randomID())
		if os.Rename(final, gone) == nil {
			if _, err := os.Lstat(filepath.Join(gone, dataDir)); err == nil { // somebody else has made it anew
				return nil, errors.Join(fmt.Errorf("%w: %s", ErrExists, v.Name), unix.Renameat2(unix.AT_FDCWD, gone, unix.AT_FDCWD, final, unix.RENAME_NOREPLACE))
			}
			defer os.RemoveAll(gone)
		}
		err = os.Rename(stage, final)
	}
	if err != nil {
		if errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("%w: %s", ErrExists, v.Name)
		}
		return nil, fmt.Errorf("make volume %s: %w", v.Name, err)
	}
	if !v.Anonymous {
		if err := atomicfile.SyncDir(d.path); err != nil {
			return nil, fmt.Errorf("make volume %s: %w", v.Name, err)
		}
	}
	v.Data = filepath.Join(final, dataDir)
	return v, nil
}

// empty tells whether the directory of a volume has lost its content: it was deleted by other means, and not wholly.
func (d *Dir) empty(name string) bool {
	_, err := os.Lstat(filepath.Join(d.path, name, dataDir))
	return errors.Is(err, os.ErrNotExist)
}

// recordName is the file that says when and how a volume was made.
const recordName = "volume.json"

// write writes the record. That of a volume with a name has to survive a power loss, as what it will hold does.
func (v *Volume) write(path string) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if v.Anonymous {
		return os.WriteFile(path, data, 0o600)
	}
	return atomicfile.ReplaceDurably(path, data)
}

// Ensure gives the volume of that name and makes it if there is none.
func (d *Dir) Ensure(name string) (*Volume, error) {
	v, err := d.Get(name)
	if !errors.Is(err, ErrNotFound) {
		return v, err
	}
	v, err = d.Create(name, nil)
	if errors.Is(err, ErrExists) { // made by somebody else meanwhile
		return d.Get(name)
	}
	return v, err
}

// Get looks a volume up.
func (d *Dir) Get(name string) (*Volume, error) {
	if CheckName(name) != nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	if d.empty(name) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	data, err := os.ReadFile(filepath.Join(d.path, name, recordName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read volume: %w", err)
	}
	v := new(Volume)
	if err := json.Unmarshal(data, v); err != nil {
		*v = Volume{} // a failure of the disk: what counts is the data
	}
	v.Name, v.Data = name, filepath.Join(d.path, name, dataDir)
	return v, nil
}

// List gives all volumes by name.
func (d *Dir) List() ([]*Volume, error) {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	var list []*Volume
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") {
			continue
		}
		v, err := d.Get(e.Name())
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list, nil
}

// Use keeps all volumes from being removed until release is called.
func (d *Dir) Use() (release func(), err error) { return d.lock(unix.LOCK_SH) }

func (d *Dir) lock(how int) (unlock func(), err error) {
	if err := d.make(); err != nil {
		return nil, err
	}
	f, err := os.Open(d.path)
	if err != nil {
		return nil, fmt.Errorf("lock the directory of volumes: %w", err)
	}
	if err := sys.Retry(func() error { return unix.Flock(int(f.Fd()), how) }); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock the directory of volumes: %w", err)
	}
	return func() { f.Close() }, nil
}

// Remove deletes a volume by way of discard, which deletes a directory tree, unless free has an error. Between that answer
// and the end of the volume nobody begins to use it; see [Dir.Use].
func (d *Dir) Remove(v *Volume, free func() error, discard func(dir string) error) error {
	gone := filepath.Join(d.path, gonePrefix+randomID())
	if claim, err := claimTree(filepath.Join(d.path, v.Name)); err == nil {
		defer claim.Close()
	}
	if err := d.vanish(v, free, gone); err != nil {
		return err
	}
	if err := discard(gone); err != nil {
		return fmt.Errorf("remove volume %s: %w", v.Name, err)
	}
	return nil
}

// vanish takes a volume out of sight.
func (d *Dir) vanish(v *Volume, free func() error, gone string) error {
	unlock, err := d.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if err := free(); err != nil {
		return err
	}
	err = os.Rename(filepath.Join(d.path, v.Name), gone)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %s", ErrNotFound, v.Name)
	}
	if err != nil {
		return fmt.Errorf("remove volume %s: %w", v.Name, err)
	}
	return nil
}

// CheckName tells whether a name is one that a volume may have.
func CheckName(name string) error { return names.Check("volume", name) }

func randomID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
