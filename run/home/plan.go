package home

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/internal/sys"
	"mica/run/control"
	"mica/run/record"
)

// ApplySummary says what [Apply] is about to write.
type ApplySummary struct {
	Dir                     string             // the home directory
	Items                   []control.DiffItem // absolute paths, parents first
	Added, Changed, Deleted int
	Left                    []string // sockets and devices, which stay behind
	Foreign                 int      // files of other users of the container, which become the caller's
	Conflicts               []string // changed in the home directory since the container was started
}

// String is the summary in one line.
func (s *ApplySummary) String() string {
	if len(s.Items) == 0 {
		return "Nothing to write: " + s.Dir + " is as the container has it."
	}
	line := fmt.Sprintf("%d added, %d changed, %d deleted in %s", s.Added, s.Changed, s.Deleted, s.Dir)
	if s.Foreign > 0 {
		line += fmt.Sprintf("; %d of other users become yours", s.Foreign)
	}
	if len(s.Left) > 0 {
		line += fmt.Sprintf("; %d sockets and devices stay behind", len(s.Left))
	}
	if len(s.Conflicts) > 0 {
		line += fmt.Sprintf("; %d were changed there since", len(s.Conflicts))
	}
	return line
}

func (s *ApplySummary) add(c *cow.Change, v verdict) {
	full := path.Join(s.Dir, c.Path)
	switch {
	case v.left:
		s.Left = append(s.Left, full)
		return
	case v.skip:
		return
	}
	s.Items = append(s.Items, control.DiffItem{Kind: c.Kind.String(), Path: full})
	switch c.Kind {
	case cow.Added:
		s.Added++
	case cow.Modified:
		s.Changed++
	default:
		s.Deleted++
	}
	if v.foreign {
		s.Foreign++
	}
	if v.conflict {
		s.Conflicts = append(s.Conflicts, full)
	}
}

// verdict is what one change means for the home directory as it is.
type verdict struct {
	skip     bool // nothing to do
	left     bool // nothing that can be written
	foreign  bool
	conflict bool
	merge    bool // a directory that is there and stays

	was *unix.Statx_t // what is in its place, nil: nothing
}

// plan judges changes against the real home directory.
type plan struct {
	c       *record.Container
	home    int         // descriptor of the home directory
	dir     string      // its path
	store   string      // Path of the store in it, empty if it is elsewhere
	resumed bool        // an earlier apply was cut off: what it wrote is no conflict
	tried   []span      // likewise what was written then, and taken back
	starts  []time.Time // of the container's runs
}

// judge compares a change with what is there.
func (p *plan) judge(c *cow.Change) (verdict, error) {
	var v verdict
	if c.Path == "." {
		v.skip = true
		return v, nil
	}
	isDir := c.Kind != cow.Deleted && c.Meta.Type() == unix.S_IFDIR
	var st unix.Statx_t
	there, err := p.stat(c.Path, &st)
	if err != nil {
		return v, err
	}
	wasDir := there && uint32(st.Mode)&unix.S_IFMT == unix.S_IFDIR
	v.merge = isDir && wasDir && !c.Opaque
	if c.Kind == cow.Deleted {
		v.skip = !there
	} else {
		switch c.Meta.Type() {
		case unix.S_IFSOCK, unix.S_IFBLK, unix.S_IFCHR:
			v.left = true
			return v, nil
		}
		v.foreign = c.Meta.UID != uint32(os.Getuid()) && os.Getuid() != 0
		v.skip = v.merge && uint32(st.Mode)&0o7777 == c.Meta.Perm()
	}
	if v.skip {
		return v, nil
	}
	if p.store != "" && !v.merge && (p.store == c.Path || strings.HasPrefix(p.store, c.Path+"/") || strings.HasPrefix(c.Path, p.store+"/")) {
		return v, fmt.Errorf("write %s: the store of the containers is there", path.Join(p.dir, c.Path))
	}
	if !there || v.merge {
		return v, nil
	}
	v.was = &st
	if p.resumed && (wasDir || p.placed(c, &st)) { // a directory may be half filled
		return v, nil // done once more: others may be linked to it
	}
	v.conflict, err = p.changedSince(c.Path, &st)
	return v, err
}

// placed tells whether what is there is what an apply that was cut off has put there.
func (p *plan) placed(c *cow.Change, st *unix.Statx_t) bool {
	if c.Kind == cow.Deleted || uint32(st.Mode)&unix.S_IFMT != c.Meta.Type() {
		return false
	}
	mtime := sys.Timespec(c.Mtime)
	if st.Mtime.Sec != mtime.Sec || int64(st.Mtime.Nsec) != mtime.Nsec {
		return false
	}
	switch c.Meta.Type() {
	case unix.S_IFREG:
		return int64(st.Size) == c.Size && uint32(st.Mode)&0o7777 == c.Meta.Perm()
	case unix.S_IFLNK:
		target, err := os.Readlink(filepath.Join(p.dir, c.Path))
		return err == nil && target == c.Target
	}
	return true
}

// stat looks at a path of the home directory, without following symlinks.
func (p *plan) stat(rel string, st *unix.Statx_t) (there bool, err error) {
	fd, err := sys.OpenBeneath(p.home, path.Dir(rel), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return false, nil
	}
	if err == nil {
		err = sys.Stat(fd, path.Base(rel), st)
		sys.Close(fd)
	}
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", path.Join(p.dir, rel), err)
	}
	return true, nil
}
