package layerstore

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/whiteout"
)

// cleanPath turns an entry's name into a path below the root; the root itself is
// the empty path. Absolute names lie below the root too, as Docker reads
// them; a name that would leave the root is refused.
func cleanPath(name string) (string, error) {
	if strings.IndexByte(name, 0) >= 0 {
		return "", errors.New("the name holds a NUL byte")
	}
	if len(name) > maxPathBytes {
		return "", fmt.Errorf("the name is longer than %d bytes", maxPathBytes)
	}
	p := path.Clean(strings.TrimLeft(name, "/"))
	if p == "." {
		return "", nil
	}
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", errors.New("the name leads out of the layer")
	}
	if strings.Count(p, "/") >= maxDepth {
		return "", fmt.Errorf("the name is nested deeper than %d directories", maxDepth)
	}
	for part := range strings.SplitSeq(p, "/") {
		// A whiteout is longer than the name that it deletes, which is what
		// the disk must hold.
		if len(strings.TrimPrefix(part, whiteout.Prefix)) > maxNameBytes {
			return "", fmt.Errorf("a part of the name is longer than %d bytes", maxNameBytes)
		}
	}
	return p, nil
}

func splitPath(p string) (dir, name string) {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i], p[i+1:]
	}
	return "", p
}

func joinPath(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// place is where an entry goes: a directory that is open, and a name in it.
type place struct {
	dirfd int
	dir   string // the directory's true path in the tree
	name  string
}

func (p place) path() string { return joinPath(p.dir, p.name) }

// parent opens the directory of an entry and makes what is missing of it.
// Symlinks on the way that this layer itself holds are followed within the tree.
func (x *extractor) parent(p string) (dirfd int, dir, name string, err error) {
	dirText, name := splitPath(p)
	if fd, ok := x.dirs.get(dirText); ok {
		return fd, dirText, name, nil
	}
	dirfd, dir, err = x.walk(dirText, true)
	return dirfd, dir, name, err
}

// walk opens the directory that a path leads to, and gives its true path. With create set
// missing directories are made; without, they are ENOENT.
func (x *extractor) walk(p string, create bool) (fd int, at string, err error) {
	parts := strings.Split(p, "/")
	links := 0
	fd = x.root
	for len(parts) > 0 {
		part := parts[0]
		parts = parts[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at, _ = splitPath(at)
			if fd, err = x.reopen(at); err != nil {
				return -1, "", err
			}
			continue
		}
		next, err := x.step(fd, at, part, create)
		if err == nil {
			fd, at = next, joinPath(at, part)
			continue
		}
		if err != unix.ENOTDIR {
			return -1, "", err
		}
		o, _, rerr := ondisk.Read(fd, part)
		if rerr != nil {
			return -1, "", fmt.Errorf("read %q: %w", joinPath(at, part), rerr)
		}
		if o.Type() != unix.S_IFLNK {
			return -1, "", fmt.Errorf("%q is not a directory", clip(joinPath(at, part)))
		}
		if links++; links > maxSymlinks {
			return -1, "", fmt.Errorf("%q: too many symlinks", clip(p))
		}
		if strings.HasPrefix(o.Target, "/") {
			fd, at = x.root, ""
		}
		parts = append(strings.Split(o.Target, "/"), parts...)
		if len(parts) > 2*maxDepth {
			return -1, "", fmt.Errorf("%q: the path through symlinks is too long", clip(p))
		}
	}
	return fd, at, nil
}

// reopen gives a directory that was walked through before.
func (x *extractor) reopen(at string) (int, error) {
	if fd, ok := x.dirs.get(at); ok {
		return fd, nil
	}
	fd, err := sys.OpenBeneath(x.root, at, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, err
	}
	x.dirs.put(at, fd)
	return fd, nil
}

// step opens the directory name in fd, whose path is at. ENOTDIR says that
// something else has the name.
func (x *extractor) step(fd int, at, name string, create bool) (int, error) {
	p := joinPath(at, name)
	if next, ok := x.dirs.get(p); ok {
		return next, nil
	}
	next, err := sys.OpenDir(fd, name)
	switch err {
	case nil:
		x.dirs.put(p, next)
		return next, nil
	case unix.ELOOP:
		return -1, unix.ENOTDIR
	case unix.ENOENT, unix.ENOTDIR:
	default:
		return -1, fmt.Errorf("open %q: %w", clip(p), err)
	}
	if err == unix.ENOTDIR {
		var st unix.Statx_t
		if serr := sys.Stat(fd, name, &st); serr != nil || !whiteout.IsDevice(&st) {
			return -1, err
		}
		if !create {
			return -1, unix.ENOENT
		}
	}
	if !create {
		return -1, err
	}
	if strings.Count(p, "/") >= maxDepth {
		return -1, fmt.Errorf("%q is nested deeper than %d directories", clip(p), maxDepth)
	}
	if m, _ := whiteout.ParseName(name); m != whiteout.None {
		return -1, fmt.Errorf("%q: the name is reserved for whiteouts", clip(p))
	}
	made := place{fd, at, name}
	err = x.make(made, ondisk.Object{Meta: implicitDir})
	if err == nil {
		err = x.inherit(made)
	}
	if err != nil {
		return -1, fmt.Errorf("make %q: %w", clip(p), err)
	}
	if next, err = sys.OpenDir(fd, name); err != nil {
		return -1, fmt.Errorf("open %q: %w", clip(p), err)
	}
	x.dirs.put(p, next)
	return next, nil
}

// dirCache keeps the directories that entries were last made in open, by their true
// path. Archives come in the order of a walk, so a few are enough.
type dirCache struct {
	root  int
	open  map[string]int
	order []string // oldest first
}

const maxOpenDirs = 64

func newDirCache(root int) *dirCache {
	return &dirCache{root: root, open: make(map[string]int)}
}

func (c *dirCache) get(p string) (int, bool) {
	if p == "" {
		return c.root, true
	}
	fd, ok := c.open[p]
	return fd, ok
}

// put takes ownership of fd. It may close the directory that has been in the
// cache for longest, so a caller that holds one must not put more
// than a few.
func (c *dirCache) put(p string, fd int) {
	if len(c.order) >= maxOpenDirs {
		oldest := c.order[0]
		c.order = c.order[1:]
		if old, ok := c.open[oldest]; ok {
			sys.Close(old)
			delete(c.open, oldest)
		}
	}
	c.open[p] = fd
	c.order = append(c.order, p)
}

// drop forgets a directory that is being removed, and all below it.
func (c *dirCache) drop(p string) {
	for q, fd := range c.open {
		if q == p || strings.HasPrefix(q, p+"/") {
			sys.Close(fd)
			delete(c.open, q)
			c.order = slices.DeleteFunc(c.order, func(o string) bool { return o == q })
		}
	}
}

func (c *dirCache) close() {
	for _, fd := range c.open {
		sys.Close(fd)
	}
	clear(c.open)
}
