package cow

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// netBind is security.capability with CAP_NET_BIND_SERVICE, effective, in version 2.
var netBind = []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// TestPrivilegesAreCopied: a copy has the capabilities and the set-id bits of the lower file, though the disk takes both from
// a file that is written to, and the content of a copy is written.
func TestPrivilegesAreCopied(t *testing.T) {
	if !inside(t) {
		return
	}
	changes := map[string]func(u *union, name string) (now string, err error){
		"chmod":  func(u *union, name string) (string, error) { return name, u.chmod(name, 0o6711) },
		"rename": func(u *union, name string) (string, error) { return "renamed", u.rename(name, "renamed", 0) },
		"link":   func(u *union, name string) (string, error) { return name, u.link(name, "linked") },
		"attribute": func(u *union, name string) (string, error) {
			return name, u.with(name, func(n *Node) error { return u.Setxattr(n, "user.a", []byte("b"), 0, false) })
		},
	}
	for _, mode := range []CopyUpMode{CopyUpFull, CopyUpBlocks} {
		for what, change := range changes {
			for name, size := range map[string]int{"small": 100, "large": 4 * smallFile} {
				cfg := layers(t, tree{name: strings.Repeat("x", size)})
				cfg.CopyUp, cfg.UpperOwners, cfg.Lowers[0].Owners = mode, OwnersReal, OwnersReal
				lower := filepath.Join(cfg.Lowers[0].Dir, name)
				must(t, sys.Setxattr(unix.AT_FDCWD, lower, capXattr, netBind, 0))
				must(t, unix.Chmod(lower, 0o6755))
				want, err := sys.GetxattrAll(unix.AT_FDCWD, lower, capXattr)
				must(t, err)
				u := open(t, cfg)
				now, err := change(u, name)
				must(t, err)
				u.reopen()
				label := fmt.Sprintf("copy-up %d, %s of %s", mode, what, name)
				copied := filepath.Join(cfg.Upper, now)
				if got, err := sys.GetxattrAll(unix.AT_FDCWD, copied, capXattr); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: the copy has capabilities % x, %v", label, got, err)
				}
				fi, err := os.Stat(copied)
				must(t, err)
				if fi.Mode()&(os.ModeSetuid|os.ModeSetgid) != os.ModeSetuid|os.ModeSetgid {
					t.Errorf("%s: the copy has mode %v", label, fi.Mode())
				}
			}
		}
	}
}

// TestPrivilegesStayAtSync: the block in which the content of a lower file ends is completed by a sync, which is not a write of
// somebody's.
func TestPrivilegesStayAtSync(t *testing.T) {
	if !inside(t) {
		return
	}
	size := 4*smallFile + 1
	cfg := layers(t, tree{"file": strings.Repeat("x", size)})
	cfg.CopyUp, cfg.UpperOwners, cfg.Lowers[0].Owners = CopyUpBlocks, OwnersReal, OwnersReal
	u := open(t, cfg)
	must(t, u.put("file", "more", int64(size)))
	must(t, u.chmod("file", 0o6755))
	copied := filepath.Join(cfg.Upper, "file")
	must(t, u.with("file", func(n *Node) error {
		if err := u.Setxattr(n, capXattr, netBind, 0, false); err != nil {
			return err
		}
		before, err := sys.GetxattrAll(unix.AT_FDCWD, copied, capXattr)
		must(t, err)
		if err := u.Fsync(n, false); err != nil {
			return err
		}
		if after, err := sys.GetxattrAll(unix.AT_FDCWD, copied, capXattr); err != nil || !bytes.Equal(after, before) {
			t.Errorf("after a sync the copy has capabilities % x, %v", after, err)
		}
		return nil
	}))
	if fi, err := os.Stat(copied); err != nil || fi.Mode()&(os.ModeSetuid|os.ModeSetgid) != os.ModeSetuid|os.ModeSetgid {
		t.Errorf("after a sync the copy has mode %v, %v", fi.Mode(), err)
	}
}

// TestWorkDirectoryHandsNothingOn: what is made in the work directory on its way to the upper does not take after it.
func TestWorkDirectoryHandsNothingOn(t *testing.T) {
	if !inside(t) {
		return
	}
	everybody := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 0, 0, 0, 0, 4, 0, 7, 0, 255, 255, 255, 255,
		16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 7, 0, 255, 255, 255, 255}
	cfg := layers(t, tree{"file": "text", "dir/": "", "dir/inner": "text", "gone/": ""})
	cfg.UpperOwners, cfg.Lowers[0].Owners = OwnersReal, OwnersReal
	must(t, sys.Setxattr(unix.AT_FDCWD, cfg.Work, defaultACL, everybody, 0))
	must(t, unix.Chmod(cfg.Work, 0o2755))
	u := open(t, cfg)
	must(t, u.chmod("file", 0o640))
	must(t, u.chmod("dir/inner", 0o600))
	must(t, u.rmdir("gone"))
	must(t, u.mkdir("gone"))
	must(t, u.mkdir("gone/inner"))
	u.close()
	for _, path := range []string{"file", "dir", "dir/inner", "gone", "gone/inner"} {
		full := filepath.Join(cfg.Upper, path)
		names, err := sys.Listxattr(unix.AT_FDCWD, full)
		must(t, err)
		for _, name := range names {
			if strings.HasPrefix(name, "system.") {
				t.Errorf("%s has %s", path, name)
			}
		}
		if fi, err := os.Stat(full); err != nil || fi.Mode()&os.ModeSetgid != 0 {
			t.Errorf("%s has mode %v, %v", path, fi.Mode(), err)
		}
	}
}
