package layerstore

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mica/cow"
)

// openUnion opens the merged view of an image; upper may be empty.
func openUnion(t *testing.T, s *Store, img *Image, upper, work string) *cow.FS {
	t.Helper()
	dirs, err := s.Layers(context.Background(), img)
	if err != nil {
		t.Fatal(err)
	}
	cfg := cow.Config{Upper: upper, Work: work, Volatile: true}
	for _, dir := range dirs {
		cfg.Lowers = append(cfg.Lowers, cow.Lower{Dir: dir})
	}
	f, err := cow.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// view reads a whole union.
func view(t *testing.T, f *cow.FS) map[string]node {
	t.Helper()
	tree := make(map[string]node)
	links := make(map[string][]string)
	err := f.Walk(context.Background(), func(c *cow.Change) error {
		if c.LinkTo != "" {
			links[c.LinkTo] = append(links[c.LinkTo], c.Path)
			return nil
		}
		n := node{Meta: c.Meta, Target: c.Target, Mtime: c.Mtime}
		if len(c.Xattrs) > 0 {
			n.Xattrs = make(map[string]string)
			for k, v := range c.Xattrs {
				n.Xattrs[k] = string(v)
			}
		}
		if c.Open != nil {
			r, err := c.Open()
			if err != nil {
				return err
			}
			n.Content = sum(t, r)
		}
		tree[c.Path] = n
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for first, others := range links {
		all := append(others, first)
		slices.Sort(all)
		n := tree[first]
		n.Links = strings.Join(all, "|")
		for _, name := range all {
			tree[name] = n
		}
	}
	// That something was made in the root, or taken from it, is no change of
	// the root itself, so that its time does not go into the layer.
	root := tree["."]
	root.Mtime = root.Mtime.Truncate(1 << 62)
	tree["."] = root
	return tree
}

// editor makes random changes to a union.
type editor struct {
	t *testing.T
	r *rand.Rand
	f *cow.FS
	n int
}

// lookup finds a node by its path; the caller forgets it.
func (e *editor) lookup(p string) (*cow.Node, error) {
	at := e.f.Root()
	if p == "." {
		return at, nil
	}
	for i, name := range strings.Split(p, "/") {
		next, err := e.f.Lookup(at, name, nil)
		if i > 0 {
			e.f.Forget(at, 1)
		}
		if err != nil {
			return nil, err
		}
		at = next
	}
	return at, nil
}

// with calls fn with the node at a path.
func (e *editor) with(p string, fn func(*cow.Node) error) error {
	n, err := e.lookup(p)
	if err != nil {
		return err
	}
	defer func() {
		if p != "." {
			e.f.Forget(n, 1)
		}
	}()
	return fn(n)
}

// edit makes one change. Errors that the tree itself gives reason for, such as
// a directory that is not empty, leave it as it was.
func (e *editor) edit(tree map[string]node) error {
	all := slices.Sorted(maps.Keys(tree))
	p := all[e.r.IntN(len(all))]
	dirs := slices.DeleteFunc(slices.Clone(all), func(q string) bool { return tree[q].Meta.Type() != unix.S_IFDIR })
	d := dirs[e.r.IntN(len(dirs))]
	e.n++
	fresh := fmt.Sprintf("new%d", e.n)
	if e.r.IntN(3) == 0 && p != "." {
		fresh = path.Base(p)
	}
	inDir := func(fn func(*cow.Node) error) error { return e.with(d, fn) }
	inParent := func(fn func(*cow.Node) error) error { return e.with(path.Dir(p), fn) }
	var attr cow.Attr
	caller := cow.Caller{UID: uint32(e.r.IntN(3)), GID: 7, Umask: 0o022}
	switch e.r.IntN(10) {
	case 0, 1:
		types := []uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO, unix.S_IFCHR}
		o := cow.NewObject{Mode: types[e.r.IntN(len(types))] | 0o2755, Rdev: 0x103, Target: "x"}
		if o.Mode&unix.S_IFMT == unix.S_IFLNK {
			o.Mode = unix.S_IFLNK | 0o777
		} else {
			o.Target = ""
		}
		return inDir(func(n *cow.Node) error {
			made, err := e.f.Create(caller, n, fresh, o, &attr)
			if err == nil {
				e.f.Forget(made, 1)
			}
			return err
		})
	case 2:
		return inParent(func(n *cow.Node) error { return e.f.Unlink(n, path.Base(p)) })
	case 3:
		return e.removeAll(p)
	case 4:
		return inParent(func(from *cow.Node) error {
			return inDir(func(to *cow.Node) error { return e.f.Rename(caller, from, path.Base(p), to, fresh, 0) })
		})
	case 5:
		mode, uid := uint32(e.r.IntN(0o10000)), uint32(e.r.IntN(9))
		set := cow.SetAttr{Mode: &mode, UID: &uid}
		if tree[p].Meta.Type() == unix.S_IFLNK {
			set.Mode = nil // as in Linux
		}
		return e.with(p, func(n *cow.Node) error { return e.f.Setattr(n, set, &attr) })
	case 6:
		return e.with(p, func(n *cow.Node) error { return e.f.Setxattr(n, "user.edited", []byte(fresh), 0, false) })
	case 7:
		return e.with(p, func(n *cow.Node) error {
			return inDir(func(to *cow.Node) error { return e.f.Link(n, to, fresh, &attr) })
		})
	}
	if tree[p].Meta.Type() != unix.S_IFREG {
		return nil
	}
	return e.with(p, func(n *cow.Node) error { return e.f.Write(n, []byte(fresh), int64(e.r.IntN(30_000)), false) })
}

// removeAll removes an object and all in it.
func (e *editor) removeAll(p string) error {
	if p == "." {
		return nil
	}
	var names []string
	err := e.with(p, func(n *cow.Node) error {
		if !n.IsDir() {
			return nil
		}
		return e.f.ReadDir(n, 0, func(d cow.DirEntry) bool {
			if d.Name != "." && d.Name != ".." {
				names = append(names, d.Name)
			}
			return true
		})
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := e.removeAll(p + "/" + name); err != nil {
			return err
		}
	}
	return e.with(path.Dir(p), func(n *cow.Node) error {
		if err := e.f.Unlink(n, path.Base(p)); err != unix.EISDIR {
			return err
		}
		return e.f.Rmdir(n, path.Base(p))
	})
}

// TestLaw is the law of commits: unpack(commit(upper)) over the parent is what the
// union of parent and upper showed.
func TestLaw(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	for seed := range uint64(20) {
		g := generateTree(seed + 1000)
		img, err := s.Commit(ctx, nil, fixedChanges(g.changes...), CommitOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for round := range 3 {
			top := t.TempDir()
			upper, work := filepath.Join(top, "upper"), filepath.Join(top, "work")
			mkdirs(t, upper, work)
			f := openUnion(t, s, img, upper, work)
			e := &editor{t: t, r: rand.New(rand.NewPCG(seed, uint64(round))), f: f}
			for range 25 {
				_ = e.edit(view(t, f))
			}
			want := view(t, f)
			if img, err = s.Commit(ctx, img, f.Changes, CommitOptions{}); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			merged := openUnion(t, s, img, "", "")
			diffTrees(t, view(t, merged), want)
			if err := merged.Close(); err != nil {
				t.Fatal(err)
			}
			if t.Failed() {
				t.Fatalf("seed %d, round %d", seed, round)
			}
		}
	}
}
