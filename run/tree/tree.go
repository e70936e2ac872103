// Package tree is the filesystem of one container or image, seen from outside of any mount: paths are looked up in the union as
// they would be inside. A supervisor has the tree that it serves, and commands open one that nobody runs.
package tree

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/layerstore"
	"mica/run/record"
	"mica/run/sandbox"
	"mica/run/skeleton"
)

// Tree is the merged filesystem of one container or image, seen from outside.
type Tree struct {
	Union *cow.FS
	IDs   sandbox.IDMap // that its mount will show

	of *record.Container // nil: it is no container's
}

// Options say how a tree is opened.
type Options struct {
	Volatile bool // nothing needs to survive a power loss
	Observe  bool // read only, for a container that nobody runs
}

// Open opens the tree of a container over its image's layers.
func Open(c *record.Container, lowers []string, opt Options) (*Tree, error) {
	stack, err := Stack(c, lowers)
	if err != nil {
		return nil, err
	}
	u, err := cow.Open(cow.Config{Lowers: stack, Upper: c.Upper(), Work: c.Work(), Volatile: opt.Volatile, Observe: opt.Observe})
	if err != nil {
		return nil, fmt.Errorf("open the container's filesystem: %w", err)
	}
	return &Tree{Union: u, of: c}, nil
}

// ImageStack is the layers of an image as a union takes them.
func ImageStack(lowers []string) []cow.Lower {
	var stack []cow.Lower
	for _, dir := range lowers {
		stack = append(stack, cow.Lower{Dir: dir, Catalog: layerstore.CatalogOf(dir)})
	}
	return stack
}

// HostLower is the machine's own root as a layer. What is mounted below it,
// such as a separate /home, is part of it: the layer is read through the machine's mounts.
func HostLower() cow.Lower { return cow.Lower{Dir: "/", Owners: cow.OwnersReal} }

// Stack is what lies below the upper directory of a container,
// whoever opens it: the records in the upper count these layers.
func Stack(c *record.Container, lowers []string) ([]cow.Lower, error) {
	stack := ImageStack(lowers)
	if c.Config.HostBase {
		return append(stack, HostLower()), nil
	}
	layers, err := skeleton.Layers(c, func(paths []string) ([]string, error) { return resolve(stack, paths) })
	if err != nil {
		return nil, err
	}
	for _, dir := range layers {
		stack = append(stack, cow.Lower{Dir: dir})
	}
	return stack, nil
}

// resolve tells where paths lead in a tree that nobody changes.
func resolve(stack []cow.Lower, paths []string) ([]string, error) {
	if len(paths) == 0 || len(stack) == 0 {
		return paths, nil
	}
	u, err := cow.Open(cow.Config{Lowers: stack})
	if err != nil {
		return nil, fmt.Errorf("open the image: %w", err)
	}
	t := &Tree{Union: u}
	defer t.Close()
	var places []string
	for _, p := range paths {
		place, _, err := t.Resolve(p)
		if err != nil {
			return nil, err
		}
		places = append(places, place)
	}
	return places, nil
}

// Close ends the use of the tree.
func (t *Tree) Close() error { return t.Union.Close() }

// MaxLinks bounds the symlinks on the way to one path, as the kernel does.
const MaxLinks = 40

// lookup finds a path, following symlinks inside the tree, the last one only
// if follow is set. The caller forgets the node.
func (t *Tree) lookup(p string, follow bool) (*cow.Node, cow.Attr, error) {
	w := walker{t: t, follow: follow}
	return w.walk(t.Union.Root(), p)
}

// forget gives back a node of lookup.
func (t *Tree) forget(n *cow.Node) {
	if n != nil && n != t.Union.Root() {
		t.Union.Forget(n, 1)
	}
}

// walker resolves one path.
type walker struct {
	t      *Tree
	follow bool
	links  int
}

// walk resolves p, which is taken from the root.
func (w *walker) walk(root *cow.Node, p string) (n *cow.Node, attr cow.Attr, err error) {
	u := w.t.Union
	stack := []*cow.Node{root} // the way to where we are, root first
	defer func() {
		for i, held := range stack {
			if i > 0 && (err != nil || held != n) {
				w.t.forget(held)
			}
		}
	}()
	rest := splitPath(p)
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			if len(stack) > 1 {
				w.t.forget(stack[len(stack)-1])
				stack = stack[:len(stack)-1]
			}
			continue
		}
		child, err := u.Lookup(stack[len(stack)-1], name, &attr)
		if err != nil {
			return nil, attr, err
		}
		if attr.Mode&unix.S_IFMT == unix.S_IFLNK && (len(rest) > 0 || w.follow) {
			target, err := u.Readlink(child)
			w.t.forget(child)
			if err != nil {
				return nil, attr, err
			}
			if w.links++; w.links > MaxLinks {
				return nil, attr, unix.ELOOP
			}
			if strings.HasPrefix(target, "/") {
				for _, held := range stack[1:] {
					w.t.forget(held)
				}
				stack = stack[:1]
			}
			rest = append(splitPath(target), rest...)
			continue
		}
		stack = append(stack, child)
	}
	n = stack[len(stack)-1]
	return n, attr, u.Getattr(n, &attr)
}

// splitPath gives the names of a path; "." and empty ones say nothing.
func splitPath(p string) []string {
	var names []string
	for name := range strings.SplitSeq(p, "/") {
		if name != "" && name != "." {
			names = append(names, name)
		}
	}
	return names
}

// maxAccountFile bounds the account files that are read into memory.
const maxAccountFile = 16 << 20

// ReadFile reads a small regular file. A missing one is empty.
func (t *Tree) ReadFile(p string) ([]byte, error) {
	n, attr, err := t.lookup(p, true)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s in the container: %w", p, err)
	}
	defer t.forget(n)
	if attr.Mode&unix.S_IFMT != unix.S_IFREG || attr.Size > maxAccountFile {
		return nil, fmt.Errorf("read %s in the container: not a regular file of a sensible size", p)
	}
	buf := make([]byte, attr.Size)
	got, err := t.Union.Read(n, buf, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s in the container: %w", p, err)
	}
	return buf[:got], nil
}

// AppendFile writes data at the end of a file of the given size, which it makes
// if it is missing.
func (t *Tree) AppendFile(file string, data []byte, size int64) error {
	n, _, err := t.lookup(file, true)
	if err == unix.ENOENT {
		i := strings.LastIndexByte(file, '/')
		if err := t.makeDirs(file[:i]); err != nil {
			return err
		}
		dir, _, err := t.lookup(file[:i], true)
		if err != nil {
			return err
		}
		n, err = t.Union.Create(cow.Caller{}, dir, file[i+1:], cow.NewObject{Mode: unix.S_IFREG | 0o644}, nil)
		t.forget(dir)
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	defer t.forget(n)
	return t.Union.Write(n, data, size, false)
}

// MakeWorkingDir makes a working directory that the image lacks.
func (t *Tree) MakeWorkingDir(dir string) error {
	n, attr, err := t.lookup(dir, true)
	if err == nil {
		t.forget(n)
		if attr.Mode&unix.S_IFMT != unix.S_IFDIR {
			return fmt.Errorf("working directory %s is not a directory in the image", dir)
		}
		return nil
	}
	if err != unix.ENOENT {
		return fmt.Errorf("find working directory %s: %w", dir, err)
	}
	return t.makeDirs(dir)
}

// makeDirs makes a directory and those above it that are missing. A symlink on the way is followed.
func (t *Tree) makeDirs(dir string) error {
	names := splitPath(dir)
	for i := range names {
		p := "/" + strings.Join(names[:i+1], "/")
		n, attr, err := t.lookup(p, true)
		if err == nil {
			t.forget(n)
			if attr.Mode&unix.S_IFMT != unix.S_IFDIR {
				return fmt.Errorf("make directory %s: %w", p, unix.ENOTDIR)
			}
			continue
		}
		if err != unix.ENOENT {
			return fmt.Errorf("make directory %s: %w", p, err)
		}
		parent, _, err := t.lookup(path.Dir(p), true)
		if err != nil {
			return fmt.Errorf("make directory %s: %w", p, err)
		}
		var out cow.Attr
		made, err := t.Union.Create(cow.Caller{}, parent, names[i], cow.NewObject{Mode: unix.S_IFDIR | 0o755}, &out)
		t.forget(parent)
		if err != nil {
			return fmt.Errorf("make directory %s: %w", p, err)
		}
		t.forget(made)
	}
	return nil
}

// EnsureDir makes a directory that is missing, with an owner; those above it
// are root's.
func (t *Tree) EnsureDir(dir string, uid, gid, mode uint32) error {
	fail := func(err error) error { return fmt.Errorf("make directory %s in the container: %w", dir, err) }
	if n, _, err := t.lookup(dir, true); err != unix.ENOENT {
		if err != nil {
			return fail(err)
		}
		t.forget(n)
		return nil
	}
	parent := filepath.Dir(dir)
	if err := t.makeDirs(parent); err != nil {
		return err
	}
	n, _, err := t.lookup(parent, true)
	if err != nil {
		return fail(err)
	}
	defer t.forget(n)
	made, err := t.Union.Create(cow.Caller{UID: uid, GID: gid}, n, filepath.Base(dir), cow.NewObject{Mode: unix.S_IFDIR | mode}, nil)
	if err != nil {
		return fail(err)
	}
	t.forget(made)
	return nil
}
