package cow

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mica/whiteout"
)

// A naive model of merging: layers are applied from the bottom up, as an
// unpacker does, while the union reads them from the top down.

// modelDir is a directory of the model; a nil dir is a file.
type modelDir map[string]*modelEntry

type modelEntry struct {
	dir     modelDir
	content string
}

// layerDir is one directory of one layer.
type layerDir struct {
	files   map[string]string
	dirs    map[string]*layerDir
	deleted map[string]whiteoutForm
	opaque  opaqueForm
}

type whiteoutForm int

const (
	byDevice whiteoutForm = iota
	byFile                // .wh.NAME: the layer may have the name as well
	byXattr
)

type opaqueForm int

const (
	notOpaque opaqueForm = iota
	opaqueOverlay
	opaqueFuse
	opaqueFile
)

// randomLayer makes a directory with names from a small alphabet, so that the
// layers of a stack meet.
func randomLayer(rng *rand.Rand, id string, depth int) *layerDir {
	l := &layerDir{files: map[string]string{}, dirs: map[string]*layerDir{}, deleted: map[string]whiteoutForm{}}
	if rng.IntN(5) == 0 {
		l.opaque = opaqueForm(1 + rng.IntN(3))
	}
	for _, name := range []string{"a", "b", "c", "d", ".wh", "e e"} {
		switch kind := rng.IntN(8); {
		case kind < 2:
			l.files[name] = id + name
		case kind < 4 && depth > 0:
			l.dirs[name] = randomLayer(rng, id+name, depth-1)
		case kind < 6:
			l.deleted[name] = whiteoutForm(rng.IntN(3))
			continue
		}
		if rng.IntN(6) == 0 {
			l.deleted[name] = byFile
		}
	}
	return l
}

// write makes the layer on disk.
func (l *layerDir) write(t *testing.T, dir string) {
	t.Helper()
	must(t, os.MkdirAll(dir, 0o755))
	switch l.opaque {
	case opaqueOverlay:
		must(t, unix.Setxattr(dir, whiteout.UserOpaque, []byte("y"), 0))
	case opaqueFuse:
		must(t, unix.Setxattr(dir, whiteout.FuseOpaque, []byte("y"), 0))
	case opaqueFile:
		must(t, os.WriteFile(filepath.Join(dir, whiteout.OpaqueName), nil, 0o600))
	}
	for name, content := range l.files {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	for name, form := range l.deleted {
		path := filepath.Join(dir, name)
		switch form {
		case byDevice:
			must(t, unix.Mknod(path, unix.S_IFCHR, 0))
		case byFile:
			must(t, os.WriteFile(filepath.Join(dir, whiteout.DeleteName(name)), nil, 0o600))
		case byXattr:
			must(t, os.WriteFile(path, nil, 0o600))
			must(t, unix.Setxattr(path, "user.overlay.whiteout", []byte("y"), 0))
			if l.opaque != opaqueOverlay {
				must(t, unix.Setxattr(dir, whiteout.UserOpaque, []byte("x"), 0))
			} else {
				// One attribute cannot say both.
				must(t, unix.Setxattr(dir, whiteout.UserOpaque, []byte("x"), 0))
				must(t, unix.Setxattr(dir, whiteout.FuseOpaque, []byte("y"), 0))
			}
		}
	}
	for name, sub := range l.dirs {
		sub.write(t, filepath.Join(dir, name))
	}
}

// apply puts the layer over what the layers below it gave.
func (l *layerDir) apply(below modelDir) {
	if l.opaque != notOpaque {
		clear(below)
	}
	for name := range l.deleted {
		delete(below, name)
	}
	for name, content := range l.files {
		below[name] = &modelEntry{content: content}
	}
	for name, sub := range l.dirs {
		if e := below[name]; e == nil || e.dir == nil {
			below[name] = &modelEntry{dir: modelDir{}}
		}
		sub.apply(below[name].dir)
	}
}

// flatten lists a model by path.
func (d modelDir) flatten(prefix string, into map[string]string) map[string]string {
	for name, e := range d {
		if e.dir != nil {
			into[prefix+name] = "directory"
			e.dir.flatten(prefix+name+"/", into)
		} else {
			into[prefix+name] = e.content
		}
	}
	return into
}

// walkUnion lists a union by path.
func walkUnion(t *testing.T, u *FS) map[string]string {
	t.Helper()
	got := make(map[string]string)
	must(t, u.Walk(context.Background(), func(c *Change) error {
		switch {
		case c.Path == ".":
		case c.Meta.Type() == unix.S_IFDIR:
			got[c.Path] = "directory"
		case c.LinkTo != "":
			got[c.Path] = "link to " + c.LinkTo
		case c.Open == nil:
			got[c.Path] = c.Meta.Override()
		default:
			r, err := c.Open()
			if err != nil {
				return err
			}
			text, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			got[c.Path] = string(text)
		}
		return nil
	}))
	return got
}

func compareTrees(t *testing.T, what string, got, want map[string]string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if g, ok := got[path]; !ok {
			t.Errorf("%s: %s is missing", what, path)
		} else if g != want[path] {
			t.Errorf("%s: %s is %q, want %q", what, path, g, want[path])
		}
	}
	for path := range got {
		if _, ok := want[path]; !ok {
			t.Errorf("%s: %s should not be there", what, path)
		}
	}
}

// TestMerge compares unions over random stacks of layers with the model, and
// then removes all that they show: nothing may reappear, nor show below
// directories that are made in its place.
func TestMerge(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			base := t.TempDir()
			cfg := Config{}
			var stack []*layerDir
			for i := range 1 + rng.IntN(5) {
				l := randomLayer(rng, fmt.Sprint(i), 2)
				stack = append(stack, l)
				dir := filepath.Join(base, fmt.Sprint(i))
				l.write(t, dir)
				cfg.Lowers = append(cfg.Lowers, Lower{Dir: dir, Owners: OwnersMode(rng.IntN(2))})
			}
			if rng.IntN(3) > 0 && len(cfg.Lowers) > 1 {
				cfg.Upper, cfg.Lowers = cfg.Lowers[0].Dir, cfg.Lowers[1:]
				cfg.Work = filepath.Join(base, "work")
				must(t, os.Mkdir(cfg.Work, 0o700))
			}
			for i := range cfg.Lowers {
				if seed%3 > 0 && (seed+uint64(i))%3 > 0 {
					cfg.Lowers[i].Catalog = catalogOf(t, cfg.Lowers[i].Dir)
				}
			}
			model := modelDir{}
			for _, l := range slices.Backward(stack) {
				l.apply(model)
			}
			want := model.flatten("", map[string]string{})
			u := open(t, cfg)
			compareTrees(t, "merged", walkUnion(t, u.FS), want)
			compareLookups(t, u, model, ".")
			if cfg.Upper == "" {
				return
			}
			paths := slices.Sorted(maps.Keys(want))
			for _, path := range slices.Backward(paths) {
				remove := u.unlink
				if want[path] == "directory" {
					remove = u.rmdir
				}
				must(t, remove(path))
			}
			compareTrees(t, "emptied", walkUnion(t, u.FS), nil)
			u.reopen()
			compareTrees(t, "emptied and opened again", walkUnion(t, u.FS), nil)
			made := make(map[string]string)
			for _, path := range paths {
				if rng.IntN(2) == 0 && made[filepath.Dir(path)] == "" && filepath.Dir(path) != "." {
					continue
				}
				for dir := filepath.Dir(path); dir != "." && made[dir] == ""; dir = filepath.Dir(dir) {
					path = dir
				}
				if made[path] == "" {
					if err := u.mkdir(path); err != nil {
						t.Fatalf("mkdir %s with %q made: %v", path, made, err)
					}
					made[path] = "directory"
				}
			}
			compareTrees(t, "made anew", walkUnion(t, u.FS), made)
			u.reopen()
			compareTrees(t, "made anew and opened again", walkUnion(t, u.FS), made)
		})
	}
}

// compareLookups looks up every name that a layer might have.
func compareLookups(t *testing.T, u *union, d modelDir, path string) {
	t.Helper()
	must(t, u.with(path, func(n *Node) error {
		names, err := u.names(n)
		must(t, err)
		slices.Sort(names)
		if want := slices.Sorted(maps.Keys(d)); !slices.Equal(names, want) {
			t.Errorf("list %s: %q, want %q", path, names, want)
		}
		for _, name := range []string{"a", "b", "c", "d", ".wh", "e e", ".wh.a", ".wh.b", whiteout.OpaqueName} {
			child, err := u.Lookup(n, name, nil)
			switch {
			case err == nil:
				u.Forget(child, 1)
			case err != unix.ENOENT:
				t.Errorf("look up %s in %s: %v", name, path, err)
			}
			if e := d[name]; (err == nil) != (e != nil) {
				t.Errorf("look up %s in %s: %v", name, path, err)
			} else if e != nil && e.dir != nil {
				compareLookups(t, u, e.dir, strings.TrimPrefix(path+"/"+name, "./"))
			}
		}
		return nil
	}))
}

// TestForeignWhiteouts: names that an upper hides in any spelling can be taken
// by anything, in every way, and nothing of the lower layer shows through.
func TestForeignWhiteouts(t *testing.T) {
	takes := map[string]func(u *union, path string) error{
		"create":      func(u *union, path string) error { return u.put(path, "new", 0) },
		"mkdir":       func(u *union, path string) error { return u.mkdir(path) },
		"link":        func(u *union, path string) error { return u.link("file", path) },
		"rename file": func(u *union, path string) error { return u.rename("file", path, 0) },
		"rename dir":  func(u *union, path string) error { return u.rename("dir", path, 0) },
		"noreplace":   func(u *union, path string) error { return u.rename("file", path, unix.RENAME_NOREPLACE) },
		"whiteout":    func(u *union, path string) error { return u.rename("file", path, unix.RENAME_WHITEOUT) },
		"rename back": func(u *union, path string) error {
			if err := u.rename("dir", path, 0); err != nil {
				return err
			}
			return u.rename(path, "dir", 0)
		},
	}
	for _, take := range slices.Sorted(maps.Keys(takes)) {
		for form, spelling := range []string{"device", "file", "xattr"} {
			t.Run(take+" over "+spelling, func(t *testing.T) {
				cfg := layers(t, tree{"x/inside": "lower", "sub/x": "lower", "file": "content", "dir/member": "member"})
				hidden := &layerDir{deleted: map[string]whiteoutForm{"x": whiteoutForm(form)},
					dirs: map[string]*layerDir{"sub": {deleted: map[string]whiteoutForm{"x": whiteoutForm(form)}}}}
				hidden.write(t, cfg.Upper)
				u := open(t, cfg)
				for _, path := range []string{"x", "sub/x"} {
					if path == "sub/x" && take != "create" && take != "mkdir" && take != "link" {
						continue // the source has gone
					}
					if err := takes[take](u, path); err != nil {
						t.Fatalf("%s: %v", path, err)
					}
				}
				want := walkUnion(t, u.FS)
				if text, there := want["x/inside"]; there {
					t.Errorf("the lower x/inside shows: %q", text)
				}
				u.reopen()
				compareTrees(t, "opened again", walkUnion(t, u.FS), want)
				// An empty directory of the upper may hold marks alone; it
				// can be replaced and removed all the same.
				if _, there := want["sub/x"]; there && want["sub/x"] != "directory" {
					must(t, u.unlink("sub/x"))
				} else if there {
					must(t, u.rmdir("sub/x"))
				}
				must(t, u.mkdir("other"))
				must(t, u.rename("other", "sub", 0))
				must(t, u.rmdir("sub"))
			})
		}
	}
}

// TestWhiteoutsShareAnInode: all that are devices are links of one, also in
// another mount of the same upper, and can be replaced and removed one by one.
func TestWhiteoutsShareAnInode(t *testing.T) {
	u := open(t, layers(t, tree{"a": "1", "b": "2", "d/c": "3", "e": "4"}))
	if u.style != whiteout.Device {
		t.Fatal("the filesystem has no device whiteouts")
	}
	must(t, u.unlink("a"))
	must(t, u.unlink("d/c"))
	must(t, u.put("b", "changed", 0))
	must(t, u.unlink("b")) // leaves a whiteout in the place of a copy
	must(t, u.rename("e", "f", 0))
	count := func(name string) (ino, links uint64) {
		t.Helper()
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(u.cfg.Upper, name), &st))
		if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
			t.Fatalf("%s is no whiteout", name)
		}
		return st.Ino, uint64(st.Nlink)
	}
	shared, _ := count("a")
	for _, name := range []string{"b", "d/c"} {
		if ino, _ := count(name); ino != shared {
			t.Errorf("the whiteout of %s is a device of its own", name)
		}
	}
	must(t, u.put("a", "again", 0))
	u.reopen()
	for name, want := range map[string]string{"a": "again", "f": "4"} {
		if got := u.content(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"b", "d/c", "e"} {
		if err := u.with(name, func(*Node) error { return nil }); err != unix.ENOENT {
			t.Errorf("%s: %v, want ENOENT", name, err)
		}
	}
	must(t, u.put("b", "again", 0))
	must(t, u.unlink("b"))
	if ino, links := count("b"); ino != shared || links != 3 {
		t.Errorf("inode %d has %d links, want %d with those of b, d/c and the work directory", ino, links, shared)
	}
}

// TestWhiteoutWithAllItsLinks: the whiteout after the last link that the disk
// allows is a device of its own, and the next ones are links of that.
func TestWhiteoutWithAllItsLinks(t *testing.T) {
	u := open(t, layers(t, tree{"a": "1", "b": "2", "c": "3"}))
	must(t, u.unlink("a"))
	dir := filepath.Join(filepath.Dir(u.cfg.Work), "links")
	must(t, os.Mkdir(dir, 0o755))
	const enough = 1 << 17 // ext4 allows 65,000, btrfs 65,535
	err := error(nil)
	for i := 0; err == nil; i++ {
		if i == enough {
			t.Skip("the disk has no limit of links that a test could reach")
		}
		err = unix.Link(filepath.Join(u.cfg.Work, whiteoutName), filepath.Join(dir, fmt.Sprint(i)))
	}
	if err != unix.EMLINK {
		t.Fatal(err)
	}
	must(t, u.unlink("b"))
	must(t, u.unlink("c"))
	inode := func(name string) uint64 {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(u.cfg.Upper, name), &st))
		return st.Ino
	}
	a, b, c := inode("a"), inode("b"), inode("c")
	if a == b || b != c {
		t.Errorf("whiteouts are the inodes %d, %d and %d; want another one after the first, and that again", a, b, c)
	}
}

// TestWhiteoutOfSomebodyElse: a file in the work directory is not taken for
// the device that whiteouts share.
func TestWhiteoutOfSomebodyElse(t *testing.T) {
	cfg := layers(t, tree{"a": "1"})
	must(t, os.WriteFile(filepath.Join(cfg.Work, whiteoutName), []byte("precious"), 0o600))
	u := open(t, cfg)
	must(t, u.unlink("a"))
	u.reopen()
	if err := u.with("a", func(*Node) error { return nil }); err != unix.ENOENT {
		t.Errorf("%v, want ENOENT", err)
	}
	if got, err := os.ReadFile(filepath.Join(cfg.Work, whiteoutName)); string(got) != "precious" {
		t.Errorf("the file is %q, %v", got, err)
	}
}
