package home

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/internal/sys"
)

// stage makes changes ready in directories beside the home directory's
// files, so that putting each in place is one rename, which can be taken back.
type stage struct {
	plan  *plan
	force bool                  // whatever is in the place of a change goes
	dirs  map[uint64]*stageDir  // by filesystem
	made  map[string]*stageDir  // where directories that are new come from, by path
	files map[string]stagedFile // by path, for hard links
	open  map[string]bool       // directories that unlock has seen
	steps []step
	last  []step // modes and times of directories, once all is in them
	count int
}

// stageDir is a staging directory.
type stageDir struct {
	fd   int
	path string
	keep string // where it is kept, because it holds what cannot be got elsewhere
}

// stagedFile is one name in a staging directory.
type stagedFile struct {
	dir  *stageDir
	name string
}

// step is one change of the home directory.
type step struct {
	path     string
	do, undo func() error
}

// dirFor finds the staging directory on the filesystem of the place of rel.
func (s *stage) dirFor(rel string) (*stageDir, error) {
	parent := path.Dir(rel)
	if d, ok := s.made[parent]; ok {
		return d, nil
	}
	var st unix.Statx_t
	fd, err := sys.OpenBeneath(s.plan.home, parent, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer sys.Close(fd)
	if err := sys.Stat(fd, "", &st); err != nil {
		return nil, err
	}
	if d, ok := s.dirs[sys.Dev(&st)]; ok {
		return d, nil
	}
	var home unix.Statx_t
	if err := sys.Stat(s.plan.home, "", &home); err != nil {
		return nil, err
	}
	if sys.Dev(&home) == sys.Dev(&st) {
		parent = "."
	}
	d := &stageDir{path: filepath.Join(s.plan.dir, parent, ".mica-apply-"+s.plan.c.ID()[:12])}
	if err := sys.RemoveAll(d.path); err != nil { // of an apply that was cut off
		return nil, err
	}
	if err := os.Mkdir(d.path, 0o700); err != nil {
		return nil, err
	}
	if d.fd, err = unix.Open(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return nil, err
	}
	s.dirs[sys.Dev(&st)] = d
	return d, nil
}

// prepare makes one change ready.
func (s *stage) prepare(c *cow.Change, v verdict) error {
	fail := func(err error) error {
		return fmt.Errorf("prepare %s: %w; nothing was written", path.Join(s.plan.dir, c.Path), err)
	}
	if v.merge {
		s.dress(c, false)
		return nil
	}
	d, err := s.dirFor(c.Path)
	if err == nil {
		err = s.unlock(path.Dir(c.Path))
	}
	if err != nil {
		return fail(err)
	}
	s.count++
	at := stagedFile{d, strconv.Itoa(s.count)}
	if c.Kind == cow.Deleted {
		s.steps = append(s.steps, s.removal(c.Path, at, v.was))
		return nil
	}
	if c.LinkTo != "" {
		first, ok := s.files[c.LinkTo]
		if !ok || first.dir != d {
			return fail(fmt.Errorf("a hard link to %s: %w", c.LinkTo, unix.EXDEV))
		}
		err = unix.Linkat(first.dir.fd, first.name, d.fd, at.name, 0)
	} else {
		err = stageObject(d.fd, at.name, c)
	}
	if err != nil {
		return fail(err)
	}
	s.files[c.Path] = at
	s.steps = append(s.steps, s.placement(c.Path, at, v.was))
	if c.Meta.Type() == unix.S_IFDIR {
		s.made[c.Path] = d
		s.dress(c, true)
	}
	return nil
}

// unlock lets the owner write to a directory that is there, until all is in it.
func (s *stage) unlock(rel string) error {
	if s.open[rel] || s.made[rel] != nil {
		return nil
	}
	s.open[rel] = true
	var st unix.Statx_t
	if there, err := s.plan.stat(rel, &st); err != nil || !there {
		return err
	}
	mode := uint32(st.Mode) & 0o7777
	if mode&0o300 == 0o300 || st.Uid != uint32(os.Getuid()) {
		return nil
	}
	chmod := func(mode uint32) func() error {
		return func() error {
			return s.in(rel, func(dir int, name string) error { return unix.Fchmodat(dir, name, mode, 0) })
		}
	}
	s.steps = append(s.steps, step{path: rel, do: chmod(mode | 0o700), undo: chmod(mode)})
	s.last = append(s.last, step{path: rel, do: chmod(mode), undo: chmod(mode | 0o700)})
	return nil
}

// errNotTakenBack says that neither all steps of a commit could be carried out nor all be taken back.
var errNotTakenBack = errors.New("not everything could be taken back")

// commit carries all steps out, or none. The error is [errNotTakenBack] where that failed; what was there before is kept
// then.
func (s *stage) commit(ctx context.Context) error {
	slices.Reverse(s.last)
	steps := append(s.steps, s.last...)
	for i, st := range steps {
		err := ctx.Err()
		if err == nil {
			err = st.do()
		}
		if err == nil {
			continue
		}
		err = fmt.Errorf("write %s: %w", path.Join(s.plan.dir, st.path), err)
		return s.takeBack(steps[:i+1], err)
	}
	return nil
}

// takeBack undoes steps, of which the last one failed with err and may have been carried out in part.
func (s *stage) takeBack(steps []step, err error) error {
	var failed []error
	for _, done := range slices.Backward(steps) {
		if undoErr := done.undo(); undoErr != nil {
			failed = append(failed, fmt.Errorf("take back %s: %w", path.Join(s.plan.dir, done.path), undoErr))
		}
	}
	if len(failed) == 0 {
		return fmt.Errorf("%w; what was written before was taken back", err)
	}
	var kept []string
	for _, d := range s.dirs {
		d.keep = d.path + "-kept-" + strconv.FormatInt(time.Now().Unix(), 10)
		if renameErr := os.Rename(d.path, d.keep); renameErr != nil {
			d.keep = d.path
		}
		kept = append(kept, d.keep)
	}
	return fmt.Errorf("%w; %w: what was there before is in %s: %w", err, errNotTakenBack, strings.Join(kept, ", "), failed[0])
}

// in calls fn with the directory of a path of the home directory.
func (s *stage) in(rel string, fn func(dir int, name string) error) error {
	fd, err := sys.OpenBeneath(s.plan.home, path.Dir(rel), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	return fn(fd, path.Base(rel))
}

// errChanged says that what was in the place of a change is not what was judged.
var errChanged = errors.New("it was changed in this moment; try again")

// check compares what was taken from the home directory, and is called name in staging now, with what was judged there; nil:
// nothing.
func (s *stage) check(d *stageDir, name string, was *unix.Statx_t) error {
	if s.force {
		return nil
	}
	var st unix.Statx_t
	if err := sys.Stat(d.fd, name, &st); err != nil {
		return err
	}
	if was == nil || st.Ino != was.Ino || st.Mode&unix.S_IFMT != unix.S_IFDIR && (st.Size != was.Size || st.Mtime != was.Mtime) {
		return errChanged
	}
	return nil
}

// placement puts what is staged at its path. What was there takes its place in
// the staging directory.
func (s *stage) placement(rel string, at stagedFile, was *unix.Statx_t) step {
	const (
		untouched = iota
		moved
		exchanged
		replaced // as exchanged, in two steps, where the filesystem cannot do it in one
	)
	state, old := untouched, at.name+"-old"
	return step{path: rel, do: func() error {
		return s.in(rel, func(dir int, name string) error {
			err := sys.Rename(at.dir.fd, at.name, dir, name, unix.RENAME_NOREPLACE)
			if err == nil {
				state = moved
				return nil
			}
			if err != unix.EEXIST && err != unix.EINVAL {
				return err
			}
			if err = sys.Rename(at.dir.fd, at.name, dir, name, unix.RENAME_EXCHANGE); err == nil {
				state = exchanged
				return s.check(at.dir, at.name, was)
			}
			if err != unix.EINVAL && err != unix.ENOENT {
				return err
			}
			state = moved
			if err := sys.Rename(dir, name, at.dir.fd, old, 0); err == nil {
				state = replaced
				if err := s.check(at.dir, old, was); err != nil {
					return err
				}
			} else if err != unix.ENOENT {
				state = untouched
				return err
			}
			return sys.Rename(at.dir.fd, at.name, dir, name, 0)
		})
	}, undo: func() error {
		return s.in(rel, func(dir int, name string) error {
			switch state {
			case moved:
				if err := sys.Rename(dir, name, at.dir.fd, at.name, 0); err != unix.ENOENT {
					return err
				}
				return nil
			case exchanged:
				return sys.Rename(dir, name, at.dir.fd, at.name, unix.RENAME_EXCHANGE)
			case replaced:
				if err := sys.Rename(dir, name, at.dir.fd, at.name, 0); err != nil && err != unix.ENOENT {
					return err
				}
				return sys.Rename(at.dir.fd, old, dir, name, 0)
			}
			return nil
		})
	}}
}

// removal moves what is at a path to the staging directory.
func (s *stage) removal(rel string, at stagedFile, was *unix.Statx_t) step {
	done := false
	return step{path: rel, do: func() error {
		return s.in(rel, func(dir int, name string) error {
			err := sys.Rename(dir, name, at.dir.fd, at.name, 0)
			done = err == nil
			if err == unix.ENOENT {
				return nil
			}
			if err == nil {
				err = s.check(at.dir, at.name, was)
			}
			return err
		})
	}, undo: func() error {
		if !done {
			return nil
		}
		return s.in(rel, func(dir int, name string) error { return sys.Rename(at.dir.fd, at.name, dir, name, 0) })
	}}
}

// dress gives a directory its mode, and a new one its times, when everything
// is in it.
func (s *stage) dress(c *cow.Change, isNew bool) {
	mode, mtime, before := c.Meta.Perm(), sys.Timespec(c.Mtime), uint32(0o700)
	done := false
	rel := c.Path
	s.last = append(s.last, step{path: rel, do: func() error {
		return s.in(rel, func(dir int, name string) error {
			if !isNew {
				var st unix.Statx_t
				if err := sys.Stat(dir, name, &st); err != nil {
					return err
				}
				before = uint32(st.Mode) & 0o7777
			}
			if err := unix.Fchmodat(dir, name, mode, 0); err != nil {
				return err
			}
			if done = true; !isNew {
				return nil
			}
			return unix.UtimesNanoAt(dir, name, []unix.Timespec{mtime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
		})
	}, undo: func() error {
		if !done {
			return nil
		}
		return s.in(rel, func(dir int, name string) error { return unix.Fchmodat(dir, name, before, 0) })
	}})
}

// clear removes the staging directories with what is left in them: after a
// commit what was there before, otherwise what was not put in place.
func (s *stage) clear() {
	for _, d := range s.dirs {
		unix.Close(d.fd)
		if d.keep == "" {
			_ = sys.RemoveAll(d.path)
		}
	}
}
