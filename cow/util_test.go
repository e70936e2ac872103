package cow

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tree describes objects by path: a directory ends in "/", a symlink's text
// begins with "->", everything else is a file's content.
type tree map[string]string

// write makes the tree in dir.
func (tr tree) write(t testing.TB, dir string) {
	t.Helper()
	for path, text := range tr {
		full := filepath.Join(dir, path)
		must(t, os.MkdirAll(filepath.Dir(full), 0o755))
		switch {
		case strings.HasSuffix(path, "/"):
			must(t, os.MkdirAll(full, 0o755))
		case strings.HasPrefix(text, "->"):
			must(t, os.Symlink(text[2:], full))
		default:
			must(t, os.WriteFile(full, []byte(text), 0o644))
		}
	}
}

// layers makes one directory for each tree, topmost first, and a configuration
// of a union over them with an upper directory.
func layers(t testing.TB, trees ...tree) Config {
	t.Helper()
	base := t.TempDir()
	cfg := Config{Upper: filepath.Join(base, "upper"), Work: filepath.Join(base, "work")}
	must(t, os.Mkdir(cfg.Upper, 0o755))
	must(t, os.Mkdir(cfg.Work, 0o755))
	for i, tr := range trees {
		dir := filepath.Join(base, "lower"+string(rune('0'+i)))
		must(t, os.Mkdir(dir, 0o755))
		tr.write(t, dir)
		cfg.Lowers = append(cfg.Lowers, Lower{Dir: dir})
	}
	return cfg
}

// union is an open union with operations by path that fail the test.
type union struct {
	*FS
	t   testing.TB
	cfg Config
}

// open opens a union, which is closed at the end of the test.
func open(t testing.TB, cfg Config) *union {
	t.Helper()
	f, err := Open(cfg)
	must(t, err)
	u := &union{FS: f, t: t, cfg: cfg}
	t.Cleanup(func() {
		if u.FS != nil {
			u.close()
		}
	})
	return u
}

// close ends the union cleanly.
func (u *union) close() {
	u.t.Helper()
	must(u.t, u.Close())
	u.FS = nil
}

// kill ends the union as SIGKILL ends its process: what memory held is gone.
func (u *union) kill() {
	u.t.Helper()
	f := u.FS
	u.FS = nil
	f.dirtyMu.Lock()
	if f.settler != nil {
		f.settler.Stop()
	}
	clear(f.dirty)
	f.dirtyMu.Unlock()
	must(u.t, f.Close())
}

// reopen closes the union and opens it again.
func (u *union) reopen() {
	u.t.Helper()
	if u.FS != nil {
		u.close()
	}
	f, err := Open(u.cfg)
	must(u.t, err)
	u.FS = f
}

// walk looks up a path; the reference is the caller's.
func (f *FS) walk(path string) (*Node, error) {
	n := f.root
	n.refs.Add(1)
	if path == "." || path == "" {
		return n, nil
	}
	for part := range strings.SplitSeq(path, "/") {
		next, err := f.Lookup(n, part, nil)
		f.Forget(n, 1)
		if err != nil {
			return nil, err
		}
		n = next
	}
	return n, nil
}

// with calls fn with the node of a path.
func (u *union) with(path string, fn func(n *Node) error) error {
	n, err := u.walk(path)
	if err != nil {
		return err
	}
	defer u.Forget(n, 1)
	return fn(n)
}

// in calls fn with the directory of a path and its last name.
func (u *union) in(path string, fn func(dir *Node, name string) error) error {
	return u.with(filepath.Dir(path), func(dir *Node) error { return fn(dir, filepath.Base(path)) })
}

// content reads a file.
func (u *union) content(path string) string {
	u.t.Helper()
	var text string
	must(u.t, u.with(path, func(n *Node) error {
		var err error
		text, err = u.readAll(n)
		return err
	}))
	return text
}

func (f *FS) readAll(n *Node) (string, error) {
	var a Attr
	if err := f.Getattr(n, &a); err != nil {
		return "", err
	}
	buf := make([]byte, a.Size+1)
	size, err := f.Read(n, buf, 0)
	return string(buf[:size]), err
}

// put writes text at off in a file, which is made if need be.
func (u *union) put(path, text string, off int64) error {
	n, err := u.walk(path)
	if err == unix.ENOENT {
		err = u.in(path, func(dir *Node, name string) error {
			var a Attr
			n, err = u.Create(u.caller(), dir, name, NewObject{Mode: unix.S_IFREG | 0o644}, &a)
			return err
		})
	}
	if err != nil {
		return err
	}
	defer u.Forget(n, 1)
	return u.Write(n, []byte(text), off, false)
}

// caller is who makes objects: one whom real owners can show.
func (u *union) caller() Caller {
	if u.cfg.UpperOwners == OwnersStored {
		return Caller{}
	}
	return Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
}

func (u *union) mkdir(path string) error {
	return u.in(path, func(dir *Node, name string) error {
		var a Attr
		n, err := u.Create(u.caller(), dir, name, NewObject{Mode: unix.S_IFDIR | 0o755}, &a)
		if err == nil {
			u.Forget(n, 1)
		}
		return err
	})
}

func (u *union) unlink(path string) error { return u.in(path, u.Unlink) }
func (u *union) rmdir(path string) error  { return u.in(path, u.Rmdir) }

func (u *union) rename(from, to string, flags uint32) error {
	return u.in(from, func(dir *Node, name string) error {
		return u.in(to, func(newDir *Node, newName string) error {
			return u.Rename(Caller{}, dir, name, newDir, newName, flags)
		})
	})
}

func (u *union) link(old, path string) error {
	return u.with(old, func(n *Node) error {
		return u.in(path, func(dir *Node, name string) error {
			var a Attr
			err := u.Link(n, dir, name, &a)
			if err == nil {
				u.Forget(n, 1)
			}
			return err
		})
	})
}

func (u *union) chmod(path string, mode uint32) error {
	return u.with(path, func(n *Node) error {
		var a Attr
		return u.Setattr(n, SetAttr{Mode: &mode}, &a)
	})
}

func (u *union) truncate(path string, size int64) error {
	return u.with(path, func(n *Node) error {
		var a Attr
		return u.Setattr(n, SetAttr{Size: &size}, &a)
	})
}

func (u *union) attr(path string) Attr {
	u.t.Helper()
	var a Attr
	must(u.t, u.with(path, func(n *Node) error { return u.Getattr(n, &a) }))
	return a
}

// names lists a directory.
func (f *FS) names(n *Node) (names []string, err error) {
	err = f.ReadDir(n, 0, func(e DirEntry) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	})
	return names, err
}

// must fails the test on an error that has no place in it.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
