package cow

import (
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// A directory with lower content is renamed in the upper alone. A record on
// the upper directory says at which path of the lower layers its lower content
// lies; it takes the place of the lookup by name.

// followRedirect gives the lower directories that the upper directory name in
// fd merges with.
func (f *FS) followRedirect(fd int, name string) ([]*dirRef, error) {
	raw, err := f.liftedXattr(fd, name, redirectXattr)
	if err != nil {
		return nil, err
	}
	target := string(raw)
	if target == "" || target[0] == '/' || path.Clean(target) != target || target == ".." || strings.HasPrefix(target, "../") {
		return nil, fmt.Errorf("follow %s %q: not a path in a layer", redirectXattr, target)
	}
	var roots []*dirRef
	for _, l := range f.layers {
		if l != f.upper {
			roots = append(roots, l.root)
		}
	}
	if len(roots) == 0 {
		return nil, fmt.Errorf("follow %s %q: there is no lower layer", redirectXattr, target)
	}
	n := &Node{dir: newDirState(roots...)}
	// The walk sees the lower layers alone, as they were when the directory
	// was renamed: what the upper has at these names now is another matter.
	for part := range strings.SplitSeq(target, "/") {
		if err := f.load(n); err != nil {
			return nil, err
		}
		ent := n.dir.find(part)
		if ent == nil || ent.typ != unix.DT_DIR {
			return nil, fmt.Errorf("follow %s %q: the lower layers have no such directory", redirectXattr, target)
		}
		next := &Node{dir: newDirState(f.sub(ent.owner, part))}
		for _, l := range ent.parts() {
			next.dir.stack = append(next.dir.stack, f.sub(l, part))
		}
		n = next
	}
	return n.dir.stack, nil
}

// setRedirect records on an upper directory where its lower content lies, or
// that it has none, before it appears under another name. Needs FS.tree
// exclusively.
func (f *FS) setRedirect(n *Node) error {
	up := n.dir.top
	fd, err := f.use(up)
	if err != nil {
		return err
	}
	defer f.done(up, fd)
	if len(n.dir.stack) == 1 {
		var st unix.Statx_t
		if err := sys.Stat(fd, "", &st); err != nil {
			return err
		}
		if err := f.lift(fd, "", func() error { return f.style.SetOpaque(fd, "") }); err != nil {
			return err
		}
		return setTimes(fd, "", &st) // the mark may be a file in the directory
	}
	target := n.dir.stack[1].path()
	switch err := f.setRecord(fd, "", redirectXattr, target); err {
	case nil:
		return nil
	case unix.ENOSPC:
		var st unix.Statfs_t
		if unix.Fstatfs(fd, &st) == nil && (st.Bavail == 0 || st.Ffree == 0 && st.Files > 0) {
			return err // a copy would find no room either
		}
		return unix.EXDEV
	case unix.E2BIG, unix.ERANGE, unix.EOPNOTSUPP:
		// No room for so long a path: let the caller copy, as between
		// filesystems.
		return unix.EXDEV
	default:
		return err
	}
}
