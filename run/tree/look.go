package tree

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/run/control"
)

// Stat describes one path; nil where there is none.
func (t *Tree) Stat(p string, follow bool) (*control.PathStat, error) {
	n, attr, err := t.lookup(p, follow)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s in the container: %w", p, err)
	}
	defer t.forget(n)
	st := &control.PathStat{
		Name: path.Base(path.Clean("/" + p)), Mode: attr.Mode, Size: attr.Size,
		Mtime: time.Unix(attr.Mtime.Sec, int64(attr.Mtime.Nsec)).UTC(),
	}
	if attr.Mode&unix.S_IFMT == unix.S_IFLNK {
		if st.Target, err = t.Union.Readlink(n); err != nil {
			return nil, fmt.Errorf("read symlink %s in the container: %w", p, err)
		}
	}
	return st, nil
}

// Diff calls fn for every changed path.
func (t *Tree) Diff(ctx context.Context, fn func(control.DiffItem) error) error {
	return t.Union.Changes(ctx, func(c *cow.Change) error {
		if c.Path == "." {
			return nil
		}
		return fn(control.DiffItem{Kind: c.Kind.String(), Path: "/" + c.Path})
	})
}

// UpperSize sums the bytes of the files that the container has changed.
func (t *Tree) UpperSize(ctx context.Context) (int64, error) {
	var sum int64
	err := t.Union.Changes(ctx, func(c *cow.Change) error {
		if c.Kind != cow.Deleted && c.LinkTo == "" && c.Meta.Mode&unix.S_IFMT == unix.S_IFREG {
			sum += c.Size
		}
		return nil
	})
	return sum, err
}

// OwnedByRoot tells whether a directory and all in it belong to 0:0.
func (t *Tree) OwnedByRoot(p string) (bool, error) {
	n, attr, err := t.lookup(p, true)
	if err != nil {
		return false, fmt.Errorf("open %s in the container: %w", p, err)
	}
	defer t.forget(n)
	return t.nodeOwnedByRoot(n, &attr)
}

func (t *Tree) nodeOwnedByRoot(n *cow.Node, attr *cow.Attr) (bool, error) {
	if attr.UID != 0 || attr.GID != 0 {
		return false, nil
	}
	if !n.IsDir() {
		return true, nil
	}
	names, err := t.names(n)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		var childAttr cow.Attr
		child, err := t.Union.Lookup(n, name, &childAttr)
		if err != nil {
			return false, err
		}
		all, err := t.nodeOwnedByRoot(child, &childAttr)
		t.forget(child)
		if err != nil || !all {
			return false, err
		}
	}
	return true, nil
}

// names lists what is in a directory.
func (t *Tree) names(dir *cow.Node) (names []string, err error) {
	err = t.Union.ReadDir(dir, 0, func(e cow.DirEntry) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	return names, err
}

// List describes what is in a directory, sorted by name.
func (t *Tree) List(dir string) (list []*control.PathStat, err error) {
	n, _, err := t.lookup(dir, true)
	if err != nil {
		return nil, fmt.Errorf("list %s in the container: %w", dir, err)
	}
	defer t.forget(n)
	names, err := t.names(n)
	if err != nil {
		return nil, fmt.Errorf("list %s in the container: %w", dir, err)
	}
	slices.Sort(names)
	for _, name := range names {
		st, err := t.Stat(path.Join(dir, name), false)
		if err != nil {
			return nil, err
		}
		list = append(list, st)
	}
	return list, nil
}

// Resolve follows all symlinks of a path, inside the tree; see [Follow].
func (t *Tree) Resolve(p string) (string, *control.PathStat, error) {
	return Follow(p, func(p string) (*control.PathStat, error) { return t.Stat(p, false) })
}
