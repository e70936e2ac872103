package cow

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestShutObjects changes what its owner, who is not root, has no permissions
// on: he may change its mode, and what is open stays open.
func TestShutObjects(t *testing.T) {
	large := strings.Repeat("large", 80<<10)
	for _, how := range []CopyUpMode{CopyUpFull, CopyUpBlocks} {
		cfg := layers(t, tree{"dir/file": "text", "dir/sub/": "", "unread": "x", "empty": "", "large": large, "other": large})
		cfg.Lowers[0].Owners, cfg.UpperOwners, cfg.CopyUp = OwnersReal, OwnersReal, how
		low := cfg.Lowers[0].Dir
		must(t, os.Chmod(filepath.Join(low, "unread"), 0o200))
		must(t, os.Chmod(filepath.Join(low, "empty"), 0o444))
		must(t, os.Chmod(filepath.Join(low, "dir/sub"), 0o555))
		must(t, os.Chmod(filepath.Join(low, "dir"), 0o555))
		t.Cleanup(func() {
			for _, top := range []string{low, cfg.Upper} {
				_ = os.Chmod(filepath.Join(top, "dir"), 0o755)
			}
		})
		u := open(t, cfg)
		if mode := u.attr("unread").Mode & 0o7777; mode != 0o200 {
			t.Errorf("unread has mode %o", mode)
		}
		ino := u.attr("large").Ino
		must(t, u.chmod("empty", 0o600))
		must(t, u.put("dir/file", "TEXT", 0))
		must(t, u.chmod("dir/sub", 0o755))
		must(t, u.with("large", func(n *Node) error {
			must(t, u.chmod("large", 0))
			err := u.Write(n, []byte("LARGE"), 200_000, false)
			must(t, err)
			return u.Fsync(n, false)
		}))
		must(t, u.put("other", "OTHER", 0))
		must(t, u.chmod("other", 0o400))
		must(t, u.with("other", func(n *Node) error { return u.Fsync(n, false) }))
		u.reopen()
		for path, want := range map[string]uint32{"empty": 0o600, "dir": 0o555, "dir/file": 0o644, "dir/sub": 0o755, "large": 0, "other": 0o400} {
			if mode := u.attr(path).Mode & 0o7777; mode != want {
				t.Errorf("%s has mode %o, want %o", path, mode, want)
			}
		}
		if got := u.attr("large").Ino; got != ino {
			t.Errorf("large is inode %d, was %d", got, ino)
		}
		if got := u.content("large"); got != large[:200_000]+"LARGE"+large[200_005:] {
			t.Error("large has other content")
		}
		if got := u.content("dir/file"); got != "TEXT" {
			t.Errorf("dir/file is %q", got)
		}
		u.close()
	}
}

// TestShutDirectories works on directories that shut their owner out, after a
// remount: whoever may write to the parent can remove and replace them.
func TestShutDirectories(t *testing.T) {
	for name, do := range map[string]func(u *union) error{
		"remove":  func(u *union) error { return u.rmdir("d/empty") },
		"rename":  func(u *union) error { return u.rename("d/empty", "d/other", 0) },
		"replace": func(u *union) error { return u.rename("d/new", "d/empty", 0) },
		"chmod":   func(u *union) error { return u.chmod("d/empty", 0o755) },
		"create":  func(u *union) error { return u.put("d/hidden/more", "x", 0) },
		"look up": func(u *union) error { return u.with("d/hidden/file", func(*Node) error { return nil }) },
		"list beside a device": func(u *union) error {
			return u.with("d", func(n *Node) error { return u.ReadDir(n, 0, func(DirEntry) bool { return true }) })
		},
	} {
		cfg := layers(t, tree{"d/": ""})
		cfg.Lowers[0].Owners, cfg.UpperOwners, cfg.CopyUp, cfg.NoRedirect = OwnersReal, OwnersReal, CopyUpFull, true
		u := open(t, cfg)
		for _, dir := range []string{"d/empty", "d/new", "d/hidden"} {
			must(t, u.mkdir(dir))
		}
		must(t, u.put("d/hidden/file", "x", 0))
		must(t, u.put("d/shut", "x", 0))
		must(t, u.in("d/device", func(dir *Node, name string) error {
			n, err := u.Create(u.caller(), dir, name, NewObject{Mode: unix.S_IFCHR | 0o644}, nil)
			if err == nil {
				u.Forget(n, 1)
			}
			return err
		}))
		must(t, u.chmod("d/shut", 0))
		must(t, u.chmod("d/empty", 0))
		must(t, u.chmod("d/hidden", 0o300))
		u.reopen()
		if err := do(u); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if mode := u.attr("d/hidden").Mode & 0o7777; mode != 0o300 {
			t.Errorf("%s: the directory has mode %o", name, mode)
		}
		u.close()
		for _, dir := range []string{"d/empty", "d/other", "d/hidden"} {
			_ = os.Chmod(filepath.Join(cfg.Upper, dir), 0o755) // to be cleared away
		}
	}
}

// TestDescriptorsLeft gives an entry another descriptor while several use the
// one that it has: the last of them closes that, and nobody twice.
func TestDescriptorsLeft(t *testing.T) {
	c := newFDCache(8)
	first := openDevNull(t)
	var e fdEntry
	c.pin(&e, first)
	for range 2 {
		if fd, err := c.get(&e, noOpener{}); err != nil || fd != first {
			t.Fatal(fd, err)
		}
	}
	c.unpin(&e)
	second := openDevNull(t)
	c.pin(&e, second)
	c.put(&e, first)
	if _, err := unix.FcntlInt(uintptr(first), unix.F_GETFD, 0); err != nil {
		t.Fatal("the descriptor went while somebody used it")
	}
	c.put(&e, first)
	if _, err := unix.FcntlInt(uintptr(first), unix.F_GETFD, 0); err != unix.EBADF {
		t.Error("the descriptor stayed after its last use")
	}
	if fd, err := c.get(&e, noOpener{}); err != nil || fd != second {
		t.Fatal(fd, err)
	}
	c.put(&e, second)
	c.unpin(&e)
	if len(c.left) > 0 || c.open != 0 {
		t.Errorf("left %v, %d open", c.left, c.open)
	}
}

func openDevNull(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	return fd
}

// TestPlaceholderAfterFailure links a symlink whose first try to carry a record
// was cut off.
func TestPlaceholderAfterFailure(t *testing.T) {
	u := open(t, layers(t, tree{}))
	must(t, u.in("s", func(dir *Node, name string) error {
		n, err := u.Create(Caller{}, dir, name, NewObject{Mode: unix.S_IFLNK | 0o777, Target: "t"}, nil)
		if err == nil {
			u.Forget(n, 1)
		}
		return err
	}))
	ino := u.attr("s").Ino
	must(t, os.Link(filepath.Join(u.cfg.Upper, "s"), filepath.Join(u.cfg.Work, indexName, keptName(ino))))
	must(t, u.link("s", "s2"))
	if got := u.attr("s2"); got.Ino != ino || got.Nlink != 2 {
		t.Errorf("s2 is inode %d with %d links, want %d with 2", got.Ino, got.Nlink, ino)
	}
}
