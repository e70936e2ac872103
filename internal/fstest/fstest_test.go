package fstest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func small() Options {
	return Options{
		Scene:        SceneOptions{MaxLayers: 4, IDs: []uint32{uint32(os.Getuid())}, Spellings: []Spelling{Device, DotWh}},
		Ops:          300,
		RemountEvery: 100,
	}
}

// runDir is a directory for one run, removed whatever modes it ends with.
func runDir(t *testing.T) string {
	dir := t.TempDir()
	t.Cleanup(func() {
		filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
			if d != nil && d.IsDir() {
				os.Chmod(p, 0o700)
			}
			return nil
		})
	})
	return dir
}

// A plain directory does not differ from itself.
func TestPlainHasNoDifference(t *testing.T) {
	for seed := range uint64(4) {
		if err := Run(runDir(t), Plain{}, seed, small()); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// broken is a plain directory that something happens to at each remount.
type broken struct {
	Plain
	harm func(dir string) error
}

func (b broken) Unmount(p Place) error { return b.harm(p.Merged) }

func TestFindsDifferences(t *testing.T) {
	scene := &Scene{Layers: []Layer{{Root: &Node{Kind: Dir, Perm: 0o755, Kids: map[string]*Node{
		"f": {Kind: File, Perm: 0o644, Data: Data{Size: 3, Extents: []Extent{{0, 3, 1}}}},
		"g": {Kind: File, Perm: 0o644},
		"d": {Kind: Dir, Perm: 0o755, Kids: map[string]*Node{}},
	}}}}}
	f := func(dir string) string { return filepath.Join(dir, "f") }
	cases := map[string]func(dir string) error{
		"content": func(d string) error {
			fd, err := unix.Open(f(d), unix.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if _, err := unix.Pwrite(fd, []byte("x"), 1); err != nil {
				return err
			}
			return futimens(fd, [2]unix.Timespec{})
		},
		"size":    func(d string) error { return os.Truncate(f(d), 7) },
		"mode":    func(d string) error { return os.Chmod(f(d), 0o600) },
		"mtime":   func(d string) error { return unix.UtimesNano(f(d), []unix.Timespec{{Sec: 5}, {Sec: 5}}) },
		"xattr":   func(d string) error { return unix.Setxattr(f(d), "user.z", nil, 0) },
		"missing": func(d string) error { return os.Remove(f(d)) },
		"extra":   func(d string) error { return os.WriteFile(f(d)+"2", nil, 0o600) },
		"link":    func(d string) error { os.Remove(d + "/g"); return os.Link(f(d), d+"/g") },
		"inode": func(d string) error {
			if err := os.WriteFile(f(d)+"2", nil, 0o644); err != nil {
				return err
			}
			return os.Rename(f(d)+"2", d+"/g")
		},
		"type": func(d string) error { os.Remove(d + "/g"); return os.Symlink("f", d+"/g") },
	}
	for name, harm := range cases {
		t.Run(name, func(t *testing.T) {
			err := Replay(runDir(t), broken{harm: harm}, scene, []Op{{Code: OpRemount}}, small())
			var fail *Failure
			if !errors.As(err, &fail) {
				t.Errorf("want a failure, got %v", err)
			}
		})
	}
}

func TestShrinkKeepsWhatMatters(t *testing.T) {
	scene := NewScene(3, small().Scene)
	ops := []Op{{Code: OpMkdir, Path: []byte("zz"), Mode: 0o755}, {Code: OpStat, Path: []byte("zz")}, {Code: OpRemount}, {Code: OpStatfs}}
	u := broken{harm: func(d string) error { os.Remove(d + "/zz"); return nil }}
	var fail *Failure
	if !errors.As(Replay(runDir(t), u, scene, ops, small()), &fail) {
		t.Fatal("the harm was not seen")
	}
	temp := func() (string, error) { return runDir(t), nil }
	fail = Shrink(fail, 100, Again(temp, u, small()))
	if len(fail.Ops) > 2 || fail.Ops[0].Code != OpMkdir {
		t.Errorf("shrunk to %v", fail.Ops)
	}
	if len(fail.Scene.Layers) != 1 || len(fail.Scene.Layers[0].Root.Kids) != 0 {
		t.Errorf("layers left:\n%s", fail.Scene)
	}
	if s := fail.Error(); !strings.Contains(s, `mkdir "zz"`) {
		t.Errorf("the operations do not show: %s", s)
	}
}

func TestMerge(t *testing.T) {
	file := func() *Node { return &Node{Kind: File} }
	dir := func(kids map[string]*Node) *Node { return &Node{Kind: Dir, Kids: kids} }
	gone := &Node{Kind: Whiteout}
	opaque := dir(map[string]*Node{"new": file()})
	opaque.Opaque = true
	got := Merge([]*Node{
		dir(map[string]*Node{"d": dir(map[string]*Node{"a": file(), "b": file()}), "f": file(), "g": file(), "o": dir(map[string]*Node{"old": file()})}),
		dir(map[string]*Node{"d": dir(map[string]*Node{"b": gone, "c": file()}), "f": gone, "o": opaque}),
		dir(map[string]*Node{"g": dir(map[string]*Node{"x": gone}), "f": dir(nil)}),
	})
	want := map[string]string{"": "d f g o", "d": "a c", "f": "", "g": "", "o": "new"}
	for p, names := range want {
		n := got
		if p != "" {
			n = got.Kids[p]
		}
		if s := strings.Join(n.Names(), " "); s != names {
			t.Errorf("%q holds %q, want %q", p, s, names)
		}
	}
}

func TestReadsWhatItWrote(t *testing.T) {
	d := Data{Size: 10000, Extents: []Extent{{5000, 100, 7}}}
	path := filepath.Join(t.TempDir(), "f")
	if err := writeData(path, d); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) != 10000 || b[4999] != 0 || b[5000] == 0 || b[5100] != 0 {
		t.Errorf("content is not as described: %v", err)
	}
}

// TestSeekInRemoved: of a directory that is removed, ext4 refuses a cookie
// that it gave before; nothing else is tolerated there.
func TestSeekInRemoved(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{plain: newSide(dir, 0)}
	r.plain.slots[slotKey{}] = &openFile{fd: fd}
	defer r.plain.closeAll()
	seek, refused, ok := Op{Code: OpSeekdir}, Result{Ran: true, Errno: unix.EINVAL}, Result{Ran: true}
	if r.tolerated(seek, refused, ok) != "" {
		t.Error("tolerated in a directory that is there")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if r.tolerated(seek, refused, ok) == "" {
		t.Error("not tolerated in a removed directory")
	}
	if r.tolerated(seek, ok, refused) != "" || r.tolerated(Op{Code: OpReaddir}, refused, ok) != "" {
		t.Error("tolerates more than that")
	}
}
