package home

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/internal/sys"
	"mica/run/record"
	"mica/run/tree"
)

// ErrNotApplied is what ApplyOptions.Confirm returns to stop without fault.
var ErrNotApplied = errors.New("nothing was written")

// ApplyOptions say how [Apply] goes about it.
type ApplyOptions struct {
	// Confirm is shown what will be written, and stops that with an error.
	Confirm func(*ApplySummary) error
	Force   bool // overwrite what was changed in the home directory since
}

// Apply writes what a container that does not run has changed in its home
// directory to the real one, and then forgets it. Everything is made ready beside its place first; an
// error takes back what was put in place.
func Apply(ctx context.Context, c *record.Container, opt ApplyOptions) error {
	lock, err := lockChanges(c, "apply")
	if err != nil {
		return err
	}
	defer lock.Release()
	if c.Config.Host.Desktop.Home != record.HomeCOW {
		return fmt.Errorf("container %s has a home directory of its own: there is none to apply its changes to", c.Config.Name)
	}
	p, err := newPlan(c)
	if err != nil {
		return err
	}
	defer sys.Close(p.home)
	t, err := openUnion(c, false)
	if err != nil {
		return err
	}
	err = p.apply(ctx, t, opt)
	if closeErr := t.Close(); err == nil && closeErr != nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return dropChanges(c)
}

func newPlan(c *record.Container) (*plan, error) {
	dir := c.Config.Host.Desktop.HomeDir
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the home directory %s: %w", dir, err)
	}
	p := &plan{c: c, home: fd, dir: dir}
	if rel, inside := c.StoreBelow(c.Config.Host.Desktop.HomeDir); inside {
		p.store = rel
	}
	_, err = os.Lstat(c.HomeApplying())
	p.resumed = err == nil
	p.tried, err = readTried(c.HomeTried())
	if err == nil {
		p.starts, err = readStarts(c.HomeStarts())
	}
	if err != nil {
		sys.Close(fd)
		return nil, err
	}
	return p, nil
}

// apply shows the plan, makes everything ready and puts it in place.
func (p *plan) apply(ctx context.Context, t *tree.Tree, opt ApplyOptions) error {
	summary := &ApplySummary{Dir: p.dir}
	err := t.Union.Changes(ctx, func(c *cow.Change) error {
		v, err := p.judge(c)
		if err == nil {
			summary.add(c, v)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := opt.Confirm(summary); err != nil {
		return err
	}
	if len(summary.Conflicts) > 0 && !opt.Force {
		return conflict(summary.Conflicts[0])
	}
	s := &stage{plan: p, force: opt.Force, dirs: make(map[uint64]*stageDir), made: make(map[string]*stageDir), files: make(map[string]stagedFile),
		open: make(map[string]bool)}
	defer s.clear()
	// The second look is the one that counts: somebody was asked in between.
	err = t.Union.Changes(ctx, func(c *cow.Change) error {
		v, err := p.judge(c)
		if err != nil || v.skip || v.left {
			return err
		}
		if v.conflict && !opt.Force {
			return conflict(filepath.Join(p.dir, c.Path))
		}
		return s.prepare(c, v)
	})
	if err != nil {
		return err
	}
	if err := unix.Syncfs(p.home); err != nil {
		return fmt.Errorf("write the changes to disk: %w", err)
	}
	if err := noteApplying(p.c.HomeApplying()); err != nil {
		return fmt.Errorf("note that changes are being written: %w", err)
	}
	began := time.Now()
	if err := s.commit(ctx); err != nil {
		if !p.resumed && !errors.Is(err, errNotTakenBack) {
			err = errors.Join(err, noteTried(p.c.HomeTried(), began), os.Remove(p.c.HomeApplying()))
		}
		return err
	}
	if err := unix.Syncfs(p.home); err != nil {
		return fmt.Errorf("write the changes to disk: %w", err)
	}
	return nil
}

// noteApplying makes the mark of an apply under way, which must be on disk before the first change is.
func noteApplying(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	err = f.Sync()
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(file))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func conflict(file string) error {
	return fmt.Errorf("%s was changed since the container was started, which changed it too: settle it, or overwrite it with --force; nothing was written", file)
}
