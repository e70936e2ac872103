package home

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/run/record"
)

// fuseContext is cancelled after a number of looks at it.
type fuseContext struct {
	context.Context
	left int
}

func (c *fuseContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// describe lists a tree with modes and contents.
func describe(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(info.Mode().String() + " " + strings.TrimPrefix(p, dir))
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			b.WriteString(" " + string(data))
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// editHome does in a union what a container might.
func editHome(t *testing.T, u *cow.FS) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := cow.Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	write := func(dir *cow.Node, name, content string) {
		t.Helper()
		n, err := u.Lookup(dir, name, nil)
		if err == unix.ENOENT {
			n, err = u.Create(c, dir, name, cow.NewObject{Mode: unix.S_IFREG | 0o640}, nil)
		}
		must(err)
		must(u.Write(n, []byte(content), 0, false))
	}
	docs, err := u.Lookup(u.Root(), "docs", nil)
	must(err)
	write(docs, "one", "ONE")
	must(u.Unlink(docs, "two"))
	mode := uint32(0o755)
	must(u.Setattr(docs, cow.SetAttr{Mode: &mode}, nil))
	must(u.Unlink(u.Root(), "file"))
	dir, err := u.Create(c, u.Root(), "file", cow.NewObject{Mode: unix.S_IFDIR | 0o500}, nil)
	must(err)
	write(dir, "inside", "in")
	write(u.Root(), "new", "new")
}

// Wherever an apply is cut short, the home directory is either as before or
// as wanted, and no staging directory is left.
func TestApplyAllOrNothing(t *testing.T) {
	t.Setenv("HOME", t.TempDir())
	home := os.Getenv("HOME")
	for name, content := range map[string]string{"docs/one": "one", "docs/two": "two", "file": "file"} {
		p := filepath.Join(home, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(home, "docs"), 0o500); err != nil {
		t.Fatal(err)
	}
	before := describe(t, home)
	root := t.TempDir()
	d, err := record.Open(filepath.Join(root, "containers"))
	if err != nil {
		t.Fatal(err)
	}
	c, lock, err := d.Create(&record.Config{Host: record.HostConfig{Desktop: &record.Desktop{Home: record.HomeCOW, HomeDir: home}}})
	if err != nil {
		t.Fatal(err)
	}
	lock.Release()
	u, err := openUnion(c, false)
	if err != nil {
		t.Fatal(err)
	}
	editHome(t, u.Union)
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	failures := 0
	for n := 0; ; n++ {
		err := Apply(&fuseContext{context.Background(), n}, c, ApplyOptions{Confirm: func(*ApplySummary) error { return nil }})
		if err == nil {
			break
		}
		failures++
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cut off at %d: %v", n, err)
		}
		if now := describe(t, home); now != before {
			t.Fatalf("cut off at %d: the home directory is\n%s\nwas\n%s", n, now, before)
		}
	}
	if failures < 10 {
		t.Errorf("cut off at %d places only", failures)
	}
	want := "drwxr-xr-x \ndrwxr-xr-x /docs\n-rw-r--r-- /docs/one ONE\ndr-x------ /file\n-rw-r----- /file/inside in\n-rw-r----- /new new\n"
	if got := describe(t, home); got[strings.IndexByte(got, '\n'):] != want[strings.IndexByte(want, '\n'):] {
		t.Errorf("applied:\n%s\nwant\n%s", got, want)
	}
	if err := os.Chmod(filepath.Join(home, "file"), 0o700); err != nil {
		t.Error(err)
	}
}

// TestApplyNotTakenBack: where a failed apply cannot be taken back either, what was there before is kept and named.
func TestApplyNotTakenBack(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"removed", "replaced"} {
		if err := os.WriteFile(filepath.Join(home, name), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fd, err := unix.Open(home, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	d := &stageDir{path: filepath.Join(home, ".stage")}
	if err := os.Mkdir(d.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if d.fd, err = unix.Open(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.path, "2"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &stage{plan: &plan{home: fd, dir: home}, force: true, dirs: map[uint64]*stageDir{1: d}}
	s.steps = []step{s.removal("removed", stagedFile{d, "1"}, nil), s.placement("replaced", stagedFile{d, "2"}, nil), {path: "last", do: func() error {
		if err := os.Mkdir(filepath.Join(home, "removed"), 0o700); err != nil { // in the way of what is taken back
			t.Fatal(err)
		}
		return unix.EIO
	}, undo: func() error { return nil }}}
	err = s.commit(t.Context())
	s.clear()
	if !errors.Is(err, errNotTakenBack) || !errors.Is(err, unix.EIO) {
		t.Fatal(err)
	}
	if got, readErr := os.ReadFile(filepath.Join(home, "replaced")); readErr != nil || string(got) != "precious" {
		t.Errorf("what could be taken back: %q, %v", got, readErr)
	}
	if !strings.Contains(err.Error(), d.keep) {
		t.Errorf("%v does not name %s", err, d.keep)
	}
	if got, err := os.ReadFile(filepath.Join(d.keep, "1")); err != nil || string(got) != "precious" {
		t.Errorf("what could not: %q, %v", got, err)
	}
}

// TestApplyMeanwhile: what appears or changes in the place of a change while that is being made ready is neither overwritten
// nor removed.
func TestApplyMeanwhile(t *testing.T) {
	home := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("removed", "old")
	write("replaced", "old")
	fd, err := unix.Open(home, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	plan := &plan{home: fd, dir: home}
	d := &stageDir{path: filepath.Join(home, ".stage")}
	if err := os.Mkdir(d.path, 0o700); err != nil {
		t.Fatal(err)
	}
	if d.fd, err = unix.Open(d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(d.fd)
	for _, name := range []string{"removed", "replaced", "made"} {
		was := new(unix.Statx_t)
		if there, err := plan.stat(name, was); err != nil {
			t.Fatal(err)
		} else if !there {
			was = nil
		}
		write(".stage/1", "new")
		s := &stage{plan: plan, dirs: map[uint64]*stageDir{1: d}}
		if name == "removed" {
			s.steps = []step{s.removal(name, stagedFile{d, "2"}, was)}
		} else {
			s.steps = []step{s.placement(name, stagedFile{d, "1"}, was)}
		}
		write(name, "mine now")
		if err := s.commit(t.Context()); !errors.Is(err, errChanged) || errors.Is(err, errNotTakenBack) {
			t.Errorf("%s: %v", name, err)
		}
		if data, err := os.ReadFile(filepath.Join(home, name)); err != nil || string(data) != "mine now" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

// TestApplyResumed: an apply that was cut off is finished, with names that are linked to what it has placed, and still does not
// overwrite what was changed since.
func TestApplyResumed(t *testing.T) {
	home, root := t.TempDir(), t.TempDir()
	d, err := record.Open(filepath.Join(root, "containers"))
	if err != nil {
		t.Fatal(err)
	}
	c, lock, err := d.Create(&record.Config{Host: record.HostConfig{Desktop: &record.Desktop{Home: record.HomeCOW, HomeDir: home}}})
	if err != nil {
		t.Fatal(err)
	}
	lock.Release()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tr, err := openUnion(c, false)
	must(err)
	u, who := tr.Union, cow.Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	n, err := u.Create(who, u.Root(), "a", cow.NewObject{Mode: unix.S_IFREG | 0o640}, nil)
	must(err)
	must(u.Write(n, []byte("made"), 0, false))
	must(u.Link(n, u.Root(), "b", nil))
	must(tr.Close())
	place := func(text string) {
		must(os.WriteFile(filepath.Join(home, "a"), []byte(text), 0o640))
		st, err := os.Stat(filepath.Join(c.HomeUpper(), "a"))
		must(err)
		must(os.Chtimes(filepath.Join(home, "a"), st.ModTime(), st.ModTime()))
	}
	apply := func() error {
		return Apply(t.Context(), c, ApplyOptions{Confirm: func(*ApplySummary) error { return nil }})
	}
	must(noteApplying(c.HomeApplying()))
	place("edited since")
	if err := apply(); err == nil {
		t.Error("what was changed since was overwritten")
	}
	place("made")
	must(apply())
	a, err := os.Stat(filepath.Join(home, "a"))
	must(err)
	b, err := os.Stat(filepath.Join(home, "b"))
	must(err)
	if !os.SameFile(a, b) {
		t.Error("a and b are two files")
	}
}

// The store in a home directory is never written through it.
func TestApplySparesStore(t *testing.T) {
	home := t.TempDir()
	p := &plan{home: -1, dir: home, store: "a/store"}
	fd, err := unix.Open(home, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p.home, p.resumed = fd, true
	if err := os.MkdirAll(filepath.Join(home, "a/store/x"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"a", "a/store", "a/store/x"} {
		if _, err := p.judge(&cow.Change{Path: path, Kind: cow.Deleted}); err == nil {
			t.Errorf("delete %s: no error", path)
		}
	}
}
