package record

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/atomicfile"
	"mica/internal/sys"
)

// Container is one container as it was when it was read.
type Container struct {
	Config *Config
	State  State
	Broken error // set: its configuration is lost, and it can be looked at and removed only
	dir    string
	kept   *Lock // on the mark of a container that this process has made for a build
}

// ID of the container.
func (c *Container) ID() string { return c.Config.ID }

// Path is the container's directory.
func (c *Container) Path() string { return c.dir }

// Upper is the container's own layer.
func (c *Container) Upper() string { return filepath.Join(c.dir, "upper") }

// Work is the scratch directory beside it.
func (c *Container) Work() string { return filepath.Join(c.dir, "work") }

// StoreBelow tells whether the store of the container lies in a directory, whatever they are called, and where.
func (c *Container) StoreBelow(dir string) (string, bool) {
	store := filepath.Dir(filepath.Dir(c.dir))
	for _, s := range []*string{&store, &dir} {
		if real, err := filepath.EvalSymlinks(*s); err == nil {
			*s = real
		}
	}
	rel, err := filepath.Rel(dir, store)
	return rel, err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, "../")
}

// LogPath is the file of the main process's output. Older ones, where its size is limited, have .1, .2 and so on behind
// its name.
func (c *Container) LogPath() string { return filepath.Join(c.dir, "log") }

// Lock takes the lock, and fails with [ErrLocked] where another process has it.
func (c *Container) Lock() (*Lock, error) { return acquire(filepath.Join(c.dir, "lock")) }

// killedCode is the exit code of a container that ended with its supervisor, by SIGKILL.
const killedCode = 128 + 9

// Refresh reads the state again. A container whose supervisor is gone is Dead.
func (c *Container) Refresh() error {
	s, err := c.readState()
	if err != nil {
		return err
	}
	if s.Alive() {
		running, err := held(filepath.Join(c.dir, "lock"))
		if err != nil {
			return err
		}
		if !running {
			// It may just have ended: the state is written before the lock goes.
			if s, err = c.readState(); err != nil {
				return err
			}
			if s.Alive() {
				s.Status, s.PID, s.Supervisor, s.ExitCode, s.FinishedAt = Dead, 0, 0, killedCode, c.lastSign(s.StartedAt)
			}
		}
	}
	if c.Broken != nil && !s.Alive() {
		s.Status, s.Error = Dead, c.Broken.Error()
	}
	c.State = s
	return nil
}

// lastSign is when something was last heard of a container whose end nobody saw.
func (c *Container) lastSign(last time.Time) time.Time {
	for _, path := range []string{filepath.Join(c.dir, "state.json"), c.LogPath()} {
		if st, err := os.Stat(path); err == nil && st.ModTime().After(last) {
			last = st.ModTime().UTC()
		}
	}
	return last
}

func (c *Container) readState() (State, error) {
	data, err := os.ReadFile(filepath.Join(c.dir, "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return State{}, fmt.Errorf("%w: %s", ErrNotFound, c.Config.ID)
	}
	if err != nil {
		return State{}, fmt.Errorf("read container: %w", err)
	}
	var s State
	if err := json.Unmarshal(data, &s); err != nil {
		// A power loss can leave the file empty. What the container did is in its upper.
		return State{Status: Exited, Error: "state.json could not be read"}, nil
	}
	return s, nil
}

// WriteState saves the state, also on a full disk. The caller holds the lock.
func (c *Container) WriteState() error {
	data, err := json.Marshal(&c.State)
	if err != nil {
		return fmt.Errorf("write the container's state: %w", err)
	}
	path := filepath.Join(c.dir, "state.json")
	err = atomicfile.Replace(path, data)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		err = overwrite(path, data) // into the space that it has
	}
	if err != nil {
		return fmt.Errorf("write the container's state: %w", err)
	}
	return nil
}

func overwrite(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Truncate(int64(len(data)))
	}
	return errors.Join(err, f.Close())
}

// writeConfig saves the configuration, without which the container is of no use: it has to survive a power loss, if the
// container does.
func (c *Container) writeConfig() error {
	data, err := json.Marshal(c.Config)
	if err != nil {
		return fmt.Errorf("write the container's configuration: %w", err)
	}
	replace := atomicfile.Replace
	if c.lasts() {
		replace = atomicfile.ReplaceDurably
	}
	if err := replace(filepath.Join(c.dir, configName), data); err != nil {
		return fmt.Errorf("write the container's configuration: %w", err)
	}
	return nil
}

// lasts tells whether the container is to survive a power loss. For one that goes when it ends, nobody has to wait.
func (c *Container) lasts() bool { return !c.Config.Volatile() }

// Rename gives the container another name. A container may be renamed while
// it runs: nothing in its supervisor depends on the name.
func (d *Dir) Rename(c *Container, name string) error {
	name = PlainName(name)
	if err := CheckName(name); err != nil {
		return err
	}
	if c.Broken != nil {
		return c.Broken
	}
	unlock, err := d.lockNames()
	if err != nil {
		return err
	}
	defer unlock()
	now, err := readConfig(c.dir) // others may have renamed it meanwhile
	if err != nil {
		return fmt.Errorf("rename container %s: %w", c.Config.Name, err)
	}
	c.Config = now
	old := c.Config.Name
	if name == old {
		return fmt.Errorf("%w: the container has the name %q already", ErrNameInUse, name)
	}
	if err := d.link(name, c.Config.ID); err != nil {
		return err
	}
	c.Config.Name = name
	if err := c.writeConfig(); err != nil {
		c.Config.Name = old
		d.unlink(name, c.Config.ID)
		return err
	}
	d.unlink(old, c.Config.ID)
	if c.lasts() {
		return d.sync()
	}
	return nil
}

// SetRestart gives a container another restart policy. Its supervisor asks for that when the main process has ended.
func (d *Dir) SetRestart(c *Container, p RestartPolicy) error {
	unlock, err := d.lockNames()
	if err != nil {
		return err
	}
	defer unlock()
	if c.Config, err = readConfig(c.dir); err != nil { // others may have renamed it meanwhile
		return fmt.Errorf("update container %s: %w", c.ID(), err)
	}
	c.Config.Host.Restart = p
	return c.writeConfig()
}

// RestartPolicy is the restart policy as it is now.
func (c *Container) RestartPolicy() RestartPolicy {
	if now, err := readConfig(c.dir); err == nil {
		return now.Host.Restart
	}
	return c.Config.Host.Restart
}

// Vanish takes the container and its name out of sight with one rename. What
// is left to do is [Container.Discard].
func (c *Container) Vanish() error {
	parent, id := filepath.Split(c.dir)
	gone := filepath.Join(parent, gonePrefix+id)
	if err := os.Rename(c.dir, gone); err != nil {
		return fmt.Errorf("remove the container: %w", err)
	}
	c.dir = gone
	name := c.Config.Name
	if now, err := readConfig(gone); err == nil {
		name = now.Name // it may have been renamed since
	}
	(&Dir{filepath.Clean(parent)}).unlink(name, id)
	return nil
}

// readersGrace is how long the end of a container waits for those who read its log to the end, and readersPoll how often it
// looks.
const (
	readersGrace = time.Second
	readersPoll  = 2 * time.Millisecond
)

// OpenForReading opens the container's directory. Until it is closed, and for some time, what is in it is not deleted,
// whatever becomes of its name.
func (c *Container) OpenForReading() (*os.File, error) {
	dir, err := os.Open(c.dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		dir.Close()
		return nil, err
	}
	return dir, nil
}

// awaitReaders waits for those who have the directory open for reading.
func (c *Container) awaitReaders() {
	dir, err := os.Open(c.dir)
	if err != nil {
		return
	}
	defer dir.Close()
	for end := time.Now().Add(readersGrace); time.Now().Before(end); time.Sleep(readersPoll) {
		if !errors.Is(unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK) {
			return
		}
	}
}

// Discard deletes what [Container.Vanish] has put out of sight.
func (c *Container) Discard() error {
	c.awaitReaders()
	err := sys.RemoveAll(c.dir)
	for range 10 { // another process may be at it too, which RemoveAll does not expect
		if err == nil {
			return nil
		}
		err = sys.RemoveAll(c.dir)
	}
	return fmt.Errorf("remove the container: %w", err)
}

// Remove deletes the container and gives its lock back.
func (c *Container) Remove(lock *Lock) error {
	defer lock.Release()
	if err := c.Vanish(); err != nil {
		return err
	}
	return c.Discard()
}
