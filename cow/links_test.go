package cow

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// linkModel is what hard links are: names of files, which have content.
type linkModel struct {
	names map[string]int // file by path
	text  map[int]string
	inos  map[int]uint64 // as the union showed them first
	mode  map[int]uint32 // of those that were changed
}

func (m *linkModel) count(file int) (n uint32) {
	for _, f := range m.names {
		if f == file {
			n++
		}
	}
	return n
}

// check compares all names with the union: content, link counts and inode
// numbers, which never change.
func (m *linkModel) check(t *testing.T, u *union, log []string) {
	t.Helper()
	for path, file := range m.names {
		a := u.attr(path)
		if got := u.content(path); got != m.text[file] {
			t.Errorf("%s is %q, want %q", path, got, m.text[file])
		}
		if want := m.count(file); a.Nlink != want {
			t.Errorf("%s has %d links, want %d", path, a.Nlink, want)
		}
		if want, set := m.mode[file]; set && a.Mode&0o7777 != want {
			t.Errorf("%s has mode %o, want %o", path, a.Mode&0o7777, want)
		}
		if first, known := m.inos[file]; known && first != a.Ino {
			t.Errorf("%s is inode %d, was %d", path, a.Ino, first)
		}
		m.inos[file] = a.Ino
	}
	byIno := make(map[uint64]int)
	for _, file := range m.names {
		if other, ok := byIno[m.inos[file]]; ok && other != file {
			t.Errorf("two files have inode %d", m.inos[file])
		}
		byIno[m.inos[file]] = file
	}
	if t.Failed() {
		t.Fatalf("after %q", log)
	}
}

// TestHardLinks plays random operations on names of hard-linked files of two
// layers, with remounts between, against the model. With every other seed,
// owners are real, and the modes often what shuts their owner out.
func TestHardLinks(t *testing.T) {
	paths := []string{"a", "b", "c", "d/a", "d/b", "d/e/a", "f/a", "f/b"}
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		large := strings.Repeat("large", 30<<10)
		cfg := layers(t, tree{"a": "zero", "d/a": "one", "f/": ""}, tree{"c": "two", "f/b": large, "d/e/": ""})
		low0, low1 := cfg.Lowers[0].Dir, cfg.Lowers[1].Dir
		must(t, os.Link(filepath.Join(low0, "a"), filepath.Join(low0, "d/b")))
		must(t, os.Link(filepath.Join(low1, "c"), filepath.Join(low1, "d/e/a")))
		must(t, os.Link(filepath.Join(low1, "f/b"), filepath.Join(low1, "b")))
		if seed%2 == 1 {
			cfg.Lowers[0].Owners, cfg.Lowers[1].Owners, cfg.UpperOwners = OwnersReal, OwnersReal, OwnersReal
			cfg.CopyUp = []CopyUpMode{CopyUpBlocks, CopyUpFull}[seed/2%2]
			must(t, os.Chmod(filepath.Join(low0, "a"), 0o444))
			must(t, os.Chmod(filepath.Join(low1, "c"), 0o444))
			must(t, os.Chmod(filepath.Join(low1, "b"), 0o400))
		}
		modes := []uint32{0, 0o200, 0o444, 0o644}
		m := &linkModel{
			names: map[string]int{"a": 0, "d/b": 0, "d/a": 1, "c": 2, "d/e/a": 2, "f/b": 3, "b": 3},
			text:  map[int]string{0: "zero", 1: "one", 2: "two", 3: large}, inos: map[int]uint64{}, mode: map[int]uint32{},
		}
		u := open(t, cfg)
		log := []string{fmt.Sprint("seed ", seed)}
		m.check(t, u, log)
		next := 4
		for range 30 {
			from, to := paths[rng.IntN(len(paths))], paths[rng.IntN(len(paths))]
			file, there := m.names[from]
			other, taken := m.names[to]
			var err error
			want := error(nil)
			switch op := rng.IntN(14); {
			case op < 3:
				log = append(log, "link "+from+" "+to)
				err = u.link(from, to)
				switch {
				case !there:
					want = unix.ENOENT
				case taken:
					want = unix.EEXIST
				default:
					m.names[to] = file
				}
			case op < 6:
				log = append(log, "unlink "+from)
				if err = u.unlink(from); !there {
					want = unix.ENOENT
				}
				delete(m.names, from)
			case op < 8:
				log = append(log, "rename "+from+" "+to)
				err = u.rename(from, to, 0)
				switch {
				case !there:
					want = unix.ENOENT
				case taken && other == file: // two names of one file stay
				default:
					m.names[to] = file
					delete(m.names, from)
				}
			case op < 9:
				log = append(log, "exchange "+from+" "+to)
				if err = u.rename(from, to, unix.RENAME_EXCHANGE); !there || !taken {
					want = unix.ENOENT
				} else {
					m.names[from], m.names[to] = other, file
				}
			case op < 10 && there:
				log = append(log, "write "+from)
				text := m.text[file]
				off := rng.IntN(len(text))
				err = u.put(from, "new", int64(off))
				m.text[file] = text[:off] + "new" + text[min(len(text), off+3):]
			case op < 11 && !there:
				log = append(log, "create "+from)
				err = u.put(from, "made", 0)
				m.names[from], m.text[next] = next, "made"
				next++
			case op < 13 && there && seed%2 == 1:
				mode := modes[rng.IntN(len(modes))]
				log = append(log, fmt.Sprintf("chmod %o %s", mode, from))
				err = u.chmod(from, mode)
				m.mode[file] = mode
			default:
				log = append(log, "remount")
				u.reopen()
			}
			if err != want {
				t.Fatalf("%v, want %v, after %q", err, want, log)
			}
			m.check(t, u, log)
		}
		checkChanges(t, u, log)
		if len(u.work.indexed) > 3 {
			t.Errorf("%d entries in the index for 3 files", len(u.work.indexed))
		}
		for path := range m.names {
			if err := u.unlink(path); err != nil {
				t.Fatalf("unlink %s of %v: %v, after %q", path, m.names, err, log)
			}
		}
		if entries, err := os.ReadDir(filepath.Join(cfg.Work, indexName)); err != nil || len(entries) > 0 {
			t.Errorf("the index keeps %d files without a name: %v", len(entries), log)
		}
		u.close()
	}
}

// checkChanges applies the changes of a union to a copy of its lower layers
// and compares the outcome with what the union shows: paths, content, and
// which names are one file.
func checkChanges(t *testing.T, u *union, log []string) {
	t.Helper()
	lower := u.cfg
	lower.Upper, lower.Work = "", ""
	below := open(t, lower)
	now := walkUnion(t, below.FS)
	resolve(now)
	below.close()
	must(t, u.Changes(context.Background(), func(c *Change) error {
		inside := func(path string, _ string) bool { return strings.HasPrefix(path, c.Path+"/") }
		switch {
		case c.Path == ".":
		case c.Kind == Deleted:
			maps.DeleteFunc(now, inside)
			delete(now, c.Path)
		case c.Meta.Type() == unix.S_IFDIR:
			if c.Opaque || now[c.Path] != "directory" {
				maps.DeleteFunc(now, inside)
			}
			now[c.Path] = "directory"
		case c.LinkTo != "":
			now[c.Path] = now[c.LinkTo]
		default:
			maps.DeleteFunc(now, inside)
			now[c.Path] = u.content(c.Path)
		}
		return nil
	}))
	want := walkUnion(t, u.FS)
	resolve(want)
	compareTrees(t, "changes applied", now, want)
	if t.Failed() {
		t.Fatalf("after %q", log)
	}
}

// resolve gives further names of a file its content.
func resolve(paths map[string]string) {
	for path, text := range paths {
		if first, ok := strings.CutPrefix(text, "link to "); ok {
			paths[path] = paths[first]
		}
	}
}

// TestRedirectChains renames directories of the lower layers again and again,
// into each other too, over remounts. What is in them moves along, and commits
// without a mark.
func TestRedirectChains(t *testing.T) {
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 4))
		cfg := layers(t, tree{"a/b/c/file": "top", "a/b/x": "x", "d/y": "y"}, tree{"a/b/c/low": "low", "d/e/z": "z", "f/": ""})
		must(t, os.Link(filepath.Join(cfg.Lowers[0].Dir, "a/b/x"), filepath.Join(cfg.Lowers[0].Dir, "d/x")))
		cfg.NoRedirect = seed%3 == 0
		u := open(t, cfg)
		want := walkUnion(t, u.FS)
		resolve(want)
		log := []string{fmt.Sprint("seed ", seed)}
		for step := range 25 {
			var dirs []string
			for path, text := range want {
				if text == "directory" {
					dirs = append(dirs, path)
				}
			}
			if len(dirs) == 0 {
				break
			}
			slices.Sort(dirs)
			from := dirs[rng.IntN(len(dirs))]
			to := fmt.Sprint("new", rng.IntN(4))
			if rng.IntN(2) == 0 {
				to = dirs[rng.IntN(len(dirs))] + "/" + []string{"a", "b", "c", "d", to}[rng.IntN(5)]
			}
			switch _, taken := want[to]; {
			case rng.IntN(6) == 0:
				log = append(log, "remount")
				u.reopen()
			case rng.IntN(5) == 0:
				path := fmt.Sprint(from, "/made", step)
				log = append(log, "write "+path)
				must(t, u.put(path, path, 0))
				want[path] = path
			case taken || to == from || strings.HasPrefix(to, from+"/"):
				continue
			default:
				log = append(log, "rename "+from+" "+to)
				if err := u.rename(from, to, 0); err != nil {
					t.Fatalf("%v, after %q", err, log)
				}
				for path, text := range maps.Clone(want) {
					if path == from || strings.HasPrefix(path, from+"/") {
						delete(want, path)
						want[to+path[len(from):]] = text
					}
				}
			}
			got := walkUnion(t, u.FS)
			resolve(got)
			if compareTrees(t, "renamed", got, want); t.Failed() {
				t.Fatalf("after %q", log)
			}
		}
		checkChanges(t, u, log)
		must(t, u.Changes(context.Background(), func(c *Change) error {
			for name := range c.Xattrs {
				t.Errorf("%s is committed with %s", c.Path, name)
			}
			return nil
		}))
		u.close()
	}
}

// TestSpecialInodes: symlinks and special files keep their inode numbers too,
// where they are copied up as what they are and can carry no record.
func TestSpecialInodes(t *testing.T) {
	cfg := layers(t, tree{"link": "->x", "dir/": ""})
	cfg.UpperOwners, cfg.Lowers[0].Owners, cfg.NoRedirect = OwnersReal, OwnersReal, true
	must(t, unix.Mkfifo(filepath.Join(cfg.Lowers[0].Dir, "fifo"), 0o600))
	must(t, os.Link(filepath.Join(cfg.Lowers[0].Dir, "link"), filepath.Join(cfg.Lowers[0].Dir, "dir/link")))
	u := open(t, cfg)
	want := map[string]uint64{"link": u.attr("link").Ino, "dir/link": u.attr("link").Ino, "fifo": u.attr("fifo").Ino}
	check := func(when string) {
		t.Helper()
		listed := map[string]uint64{}
		for dir, prefix := range map[string]string{".": "", "dir": "dir/"} {
			must(t, u.with(dir, func(n *Node) error {
				return u.ReadDir(n, 0, func(e DirEntry) bool { listed[prefix+e.Name] = e.Ino; return true })
			}))
		}
		for path, ino := range want {
			if listed[path] != ino {
				t.Errorf("%s: %s is listed as inode %d, was %d", when, path, listed[path], ino)
			}
			if got := u.attr(path).Ino; got != ino {
				t.Errorf("%s: %s is inode %d, was %d", when, path, got, ino)
			}
		}
	}
	for _, path := range []string{"link", "fifo"} {
		must(t, u.with(path, func(n *Node) error { return u.Setattr(n, SetAttr{Mtime: &unix.Timespec{Sec: 1}}, nil) }))
	}
	check("copied up")
	u.reopen()
	check("mounted again")
	must(t, u.rename("fifo", "dir/fifo", 0))
	want["dir/fifo"] = want["fifo"]
	delete(want, "fifo")
	u.reopen()
	check("renamed")
	for path := range want {
		must(t, u.unlink(path))
	}
	if entries, err := os.ReadDir(filepath.Join(cfg.Work, indexName)); err != nil || len(entries) > 0 {
		t.Errorf("the index keeps %v, %v", entries, err)
	}
}

// TestForeignLinkedSymlink: a symlink that another program has left in the
// upper under two names cannot take attributes.
func TestForeignLinkedSymlink(t *testing.T) {
	cfg := layers(t, tree{})
	tree{"link": "->x"}.write(t, cfg.Upper)
	must(t, os.Link(filepath.Join(cfg.Upper, "link"), filepath.Join(cfg.Upper, "again")))
	u := open(t, cfg)
	one := uint32(1)
	if err := u.with("link", func(n *Node) error { return u.Setattr(n, SetAttr{UID: &one}, nil) }); err != unix.EOPNOTSUPP {
		t.Errorf("two names: %v", err)
	}
	must(t, u.unlink("again"))
	must(t, u.with("link", func(n *Node) error { return u.Setattr(n, SetAttr{UID: &one}, nil) }))
	if a := u.attr("link"); a.UID != 1 || a.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("one name: owner %d, mode %o", a.UID, a.Mode)
	}
}

// TestChangesBesideShut: further names of a copied-up file are looked for where the server can look. Below a layer that is not
// its own, as the root of a machine, there are directories that nobody in the union can read.
func TestChangesBesideShut(t *testing.T) {
	cfg := layers(t, tree{"a/one": "linked", "shut/x": "", "listed/y": "", "z/sub/": ""})
	lower := cfg.Lowers[0].Dir
	must(t, os.Link(filepath.Join(lower, "a/one"), filepath.Join(lower, "z/sub/two")))
	must(t, os.Link(filepath.Join(lower, "a/one"), filepath.Join(lower, "listed/three")))
	for dir, mode := range map[string]os.FileMode{"shut": 0, "listed": 0o400} {
		must(t, os.Chmod(filepath.Join(lower, dir), mode))
		defer os.Chmod(filepath.Join(lower, dir), 0o700)
	}
	cfg.Lowers[0].Owners, cfg.UpperOwners = OwnersReal, OwnersStored
	u := open(t, cfg)
	must(t, u.put("a/one", "changed", 0))
	got := make(map[string]string)
	must(t, u.Changes(t.Context(), func(c *Change) error {
		got[c.Path] = c.LinkTo
		return nil
	}))
	if first, ok := got["z/sub/two"]; !ok || first != "a/one" {
		t.Errorf("changes: %q", got)
	}
	u.close()
	if problems, err := Check(cfg, true); err != nil || len(problems) > 0 {
		t.Errorf("checked: %v, %v", problems, err)
	}
	u = open(t, cfg)
	if got := u.content("z/sub/two"); got != "changed" {
		t.Errorf("the other name has %q", got)
	}
}

// TestMountsInLayers: files of filesystems that are mounted inside of a layer are not those of others that have their inode
// number, and have the same number after the next mount of the union.
func TestMountsInLayers(t *testing.T) {
	const env = "MICA_COW_TEST_MOUNTS"
	if os.Getenv(env) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestMountsInLayers$", "-test.v")
		cmd.Env = append(os.Environ(), env+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
			AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestMountsInLayers") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	cfg := layers(t, tree{"over/a/here": ""}, tree{"a/": "", "b/": "", "over/": "", "top": "linked on the layer"})
	lower := cfg.Lowers[1].Dir
	must(t, os.Link(filepath.Join(lower, "top"), filepath.Join(lower, "top2")))
	for _, dir := range []string{"a", "b", "over"} {
		path := filepath.Join(lower, dir)
		must(t, unix.Mount("tmpfs", path, "tmpfs", 0, "mode=0755"))
		defer unix.Unmount(path, unix.MNT_DETACH)
		must(t, os.MkdirAll(filepath.Join(path, "a"), 0o755))
		must(t, os.WriteFile(filepath.Join(path, "x"), []byte("of "+dir), 0o644))
		must(t, os.Link(filepath.Join(path, "x"), filepath.Join(path, "a", "y")))
	}
	overlayInLayer(t, filepath.Join(lower, "z"))
	u := open(t, cfg)
	inos := make(map[uint64]string)
	numbers := make(map[string]uint64)
	check := func(changed string) {
		t.Helper()
		for _, dir := range []string{"a", "b", "over"} {
			want := "of " + dir
			if dir == changed {
				want = "changed"
			}
			for _, path := range []string{dir + "/x", dir + "/a/y"} {
				if got := u.content(path); got != want {
					t.Errorf("%s has %q, want %q", path, got, want)
				}
			}
		}
	}
	check("")
	for _, path := range []string{"a/x", "b/x", "over/x", "top", "a/a", "b/a"} {
		ino := u.attr(path).Ino
		if other, ok := inos[ino]; ok {
			t.Errorf("%s has the number of %s", path, other)
		}
		inos[ino], numbers[path] = path, ino
	}
	must(t, u.put("b/x", "changed", 0))
	must(t, u.truncate("b/x", int64(len("changed"))))
	check("b")
	var names []string
	must(t, u.Changes(t.Context(), func(c *Change) error {
		names = append(names, c.Path)
		return nil
	}))
	if want := []string{"b", "b/x", "b/a", "b/a/y"}; !slices.Equal(names, want) {
		t.Errorf("changes %q, want %q", names, want)
	}
	must(t, u.put("z/d/linked", "changed", 0))
	names = nil
	must(t, u.Changes(t.Context(), func(c *Change) error {
		names = append(names, c.Path)
		return nil
	}))
	if !slices.Contains(names, "z/e/again") {
		t.Errorf("changes %q lack the other name on the overlay", names)
	}
	u.reopen()
	check("b")
	if got := u.content("z/e/again"); got != "changed" {
		t.Errorf("the other name on the overlay has %q", got)
	}
	for path, ino := range numbers {
		if got := u.attr(path).Ino; got != ino {
			t.Errorf("%s has number %d after the next mount, had %d", path, got, ino)
		}
	}
}

// overlayInLayer mounts an overlay of two filesystems, whose files have other devices than its directories.
func overlayInLayer(t *testing.T, at string) {
	base := t.TempDir()
	must(t, os.Mkdir(at, 0o755))
	for _, dir := range []string{"one", "two"} {
		path := filepath.Join(base, dir)
		must(t, os.Mkdir(path, 0o755))
		must(t, unix.Mount("tmpfs", path, "tmpfs", 0, "mode=0755"))
		t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
		must(t, os.MkdirAll(filepath.Join(path, "d"), 0o755))
		must(t, os.MkdirAll(filepath.Join(path, "e"), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(base, "one/d/linked"), []byte("linked!"), 0o644))
	must(t, os.Link(filepath.Join(base, "one/d/linked"), filepath.Join(base, "one/e/again")))
	must(t, unix.Mount("overlay", at, "overlay", 0, "userxattr,lowerdir="+base+"/one:"+base+"/two"))
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
}
