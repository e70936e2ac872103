package cow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// insideEnv marks the process that has namespaces of its own, in which a plain
// user may mount and limits hurt nobody else.
const insideEnv = "MICA_COW_TEST_INSIDE"

// inside runs the test in new user and mount namespaces; it is false in the
// process outside, where nothing is left to do.
func inside(t *testing.T) bool {
	t.Helper()
	if os.Getenv(insideEnv) != "" {
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("in a namespace: %v\n%s", err, out)
	} else if strings.Contains(string(out), "--- SKIP: "+t.Name()+" ") {
		t.Skipf("in a namespace:\n%s", out)
	}
	return false
}

// mountDisk mounts a filesystem of a kind on a new directory.
func mountDisk(t *testing.T, kind, options string) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk")
	must(t, os.Mkdir(disk, 0o700))
	must(t, unix.Mount("none", disk, kind, 0, options))
	t.Cleanup(func() { must(t, unix.Unmount(disk, unix.MNT_DETACH)) })
	return disk
}

// smallDisk is a filesystem of a mebibyte.
func smallDisk(t *testing.T) string {
	t.Helper()
	disk := mountDisk(t, "tmpfs", "size=1m,nr_inodes=64")
	if err := unix.Setxattr(disk, "user.test", nil, 0); err == unix.EOPNOTSUPP {
		t.Skip("tmpfs takes no user extended attributes before Linux 6.6")
	}
	must(t, unix.Removexattr(disk, "user.test"))
	return disk
}

// small makes a union whose upper is on a filesystem of a mebibyte.
func small(t *testing.T) (u *union, disk string) {
	t.Helper()
	cfg := layers(t, tree{
		"large": strings.Repeat("0123456789abcdef", 20<<10), "small": "small", "dir/sub/file": "file", "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/deep": "deep",
		"dir/sub/other": "other", "linked": "linked", "link": "->small", "empty/": "",
	})
	must(t, os.Link(filepath.Join(cfg.Lowers[0].Dir, "linked"), filepath.Join(cfg.Lowers[0].Dir, "dir/linked")))
	disk = smallDisk(t)
	cfg.Upper, cfg.Work = filepath.Join(disk, "upper"), filepath.Join(disk, "work")
	must(t, os.Mkdir(cfg.Upper, 0o700))
	must(t, os.Mkdir(cfg.Work, 0o700))
	return open(t, cfg), disk
}

// changes are operations of all kinds on that union.
var changes = map[string]func(u *union) error{
	"write large":  func(u *union) error { return u.put("large", "new", 150_000) },
	"write small":  func(u *union) error { return u.put("small", "new", 0) },
	"write deep":   func(u *union) error { return u.put("dir/sub/file", "new", 0) },
	"write bottom": func(u *union) error { return u.put("a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/deep", "new", 0) },
	"create": func(u *union) error {
		return u.in("dir/sub/new", func(dir *Node, name string) error {
			var a Attr
			n, err := u.Create(Caller{UID: 5}, dir, name, NewObject{Mode: unix.S_IFREG | 0o4755}, &a)
			if err == nil {
				u.Forget(n, 1)
			}
			return err
		})
	},
	"mkdir":         func(u *union) error { return u.mkdir("dir/sub/new") },
	"unlink":        func(u *union) error { return u.unlink("dir/sub/file") },
	"unlink linked": func(u *union) error { return u.unlink("dir/linked") },
	"rmdir":         func(u *union) error { return u.rmdir("empty") },
	"chmod":         func(u *union) error { return u.chmod("dir/sub/file", 0o4711) },
	"chmod link":    func(u *union) error { return u.chmod("dir", 0o1777) },
	"truncate":      func(u *union) error { return u.truncate("large", 100) },
	"cut all":       func(u *union) error { return u.truncate("large", 0) },
	"rename":        func(u *union) error { return u.rename("dir/sub/file", "new", 0) },
	"rename over":   func(u *union) error { return u.rename("small", "dir/sub/file", 0) },
	"rename dir":    func(u *union) error { return u.rename("dir", "empty", 0) },
	"exchange":      func(u *union) error { return u.rename("dir/sub", "small", unix.RENAME_EXCHANGE) },
	"link":          func(u *union) error { return u.link("small", "dir/sub/new") },
	"link linked":   func(u *union) error { return u.link("linked", "dir/sub/new") },
	"setxattr": func(u *union) error {
		return u.with("dir/sub/file", func(n *Node) error {
			return u.Setxattr(n, "user.long", make([]byte, 2000), 0, false)
		})
	},
	"tmpfile": func(u *union) error {
		return u.with("dir", func(dir *Node) error {
			var a Attr
			n, err := u.Tmpfile(Caller{}, dir, 0o600, &a)
			if err == nil {
				u.Forget(n, 1)
			}
			return err
		})
	},
}

// state describes all that users of a union see but times.
func (u *union) state() map[string]string {
	u.t.Helper()
	got := make(map[string]string)
	must(u.t, u.Walk(context.Background(), func(c *Change) error {
		var text []byte
		if c.Open != nil {
			r, err := c.Open()
			if err != nil {
				return err
			}
			if text, err = io.ReadAll(r); err != nil {
				return err
			}
		}
		links := u.attr(c.Path).Nlink
		got[c.Path] = fmt.Sprintf("%s links %d %s %s %v %s", c.Meta.Override(), links, c.Target, c.LinkTo, c.Xattrs, text)
		return nil
	}))
	return got
}

// failing runs every change with less and less of something: it must fail with
// the error that says so and leave all as it was, and succeed as soon as it
// may.
func failing(t *testing.T, want unix.Errno, steps int, scarce func(u *union, disk string, step int) (restore func())) {
	smallDisk(t) // where there can be none, all is skipped
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		t.Run(name, func(t *testing.T) {
			failed := 0
			for step := range steps {
				u, disk := small(t)
				before := u.state()
				restore := scarce(u, disk, step)
				err := changes[name](u)
				restore()
				if err == nil {
					continue
				}
				failed++
				if !errors.Is(err, want) {
					t.Errorf("step %d: %v, want %v", step, err, want)
				}
				compareTrees(t, fmt.Sprintf("step %d, after %v", step, err), u.state(), before)
				u.reopen()
				compareTrees(t, fmt.Sprintf("step %d, opened again", step), u.state(), before)
				if err := changes[name](u); err != nil {
					t.Errorf("step %d: the second time: %v", step, err)
				}
			}
			if failed == 0 {
				t.Errorf("never failed")
			}
		})
	}
}

// TestFullDisk: ENOSPC at every page and inode that a change may need.
func TestFullDisk(t *testing.T) {
	if !inside(t) {
		return
	}
	failing(t, unix.ENOSPC, 4, func(u *union, disk string, step int) func() {
		filler := filepath.Join(disk, "filler")
		f, err := os.Create(filler)
		must(t, err)
		defer f.Close()
		must(t, f.Truncate(1<<20))
		for off := int64(0); ; off += page {
			if _, err := f.WriteAt(make([]byte, page), off); errors.Is(err, unix.ENOSPC) {
				must(t, f.Truncate(max(0, off-int64(step*page))))
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		var names []string
		for {
			name := fmt.Sprint(filler, len(names))
			err := os.WriteFile(name, nil, 0o600)
			if errors.Is(err, unix.ENOSPC) {
				break
			}
			must(t, err)
			names = append(names, name)
		}
		for _, name := range names[max(0, len(names)-step):] {
			must(t, os.Remove(name))
		}
		return func() {
			must(t, os.Remove(filler))
			for _, name := range names[:max(0, len(names)-step)] {
				must(t, os.Remove(name))
			}
		}
	})
}

// TestNoAttributes: an upper on a filesystem that cannot keep attributes is refused with one line that says so.
func TestNoAttributes(t *testing.T) {
	if !inside(t) {
		return
	}
	cfg := layers(t, tree{"file": "file"})
	disk := mountDisk(t, "ramfs", "")
	cfg.Upper, cfg.Work = filepath.Join(disk, "upper"), filepath.Join(disk, "work")
	must(t, os.Mkdir(cfg.Upper, 0o700))
	must(t, os.Mkdir(cfg.Work, 0o700))
	f, err := Open(cfg)
	if err == nil {
		must(t, f.Close())
	}
	if said := fmt.Sprint(err); !strings.Contains(said, "open upper directory "+cfg.Upper) || !strings.Contains(said, "user extended attributes") {
		t.Error(said)
	}
}

// TestReadOnlyDisk: EROFS from an upper that has become read-only.
func TestReadOnlyDisk(t *testing.T) {
	if !inside(t) {
		return
	}
	failing(t, unix.EROFS, 1, func(u *union, disk string, _ int) func() {
		must(t, unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
		must(t, unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
		return func() {
			must(t, unix.Mount("", disk, "", unix.MS_REMOUNT, ""))
		}
	})
}

// TestNoDescriptors: EMFILE, which the descriptors kept open give way to
// before any call fails.
func TestNoDescriptors(t *testing.T) {
	if !inside(t) {
		return
	}
	failing(t, unix.EMFILE, 4, func(u *union, _ string, step int) func() {
		var old unix.Rlimit
		must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
		for u.fds.evictOne() {
		}
		highest := 0
		entries, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		for _, e := range entries {
			fd := 0
			fmt.Sscan(e.Name(), &fd)
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
				highest = max(highest, fd)
			}
		}
		// All numbers below are taken, so that the limit is exact.
		var taken []int
		for {
			fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
			must(t, err)
			taken = append(taken, fd)
			if fd > highest {
				break
			}
		}
		limit := old
		limit.Cur = uint64(taken[len(taken)-1] + 1 + step)
		must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
		return func() {
			must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
			for _, fd := range taken {
				must(t, unix.Close(fd))
			}
		}
	})
}
