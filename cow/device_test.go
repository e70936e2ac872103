package cow

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestDevicesLikeWhiteouts: 0:0 devices, which a union inside this one makes
// for its deletions, are objects like others here, and none of the upper's
// own whiteouts: they are there after the next mount too.
func TestDevicesLikeWhiteouts(t *testing.T) {
	me := Caller{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	for name, owners := range map[string]OwnersMode{"stored": OwnersStored, "real": OwnersReal} {
		t.Run(name, func(t *testing.T) {
			cfg := layers(t, tree{"lower": "text", "over": "text", "dir/": ""})
			cfg.UpperOwners, cfg.Lowers[0].Owners = owners, OwnersReal
			u := open(t, cfg)
			must(t, u.in("dir/made", func(dir *Node, name string) error {
				var a Attr
				n, err := u.Create(me, dir, name, NewObject{Mode: unix.S_IFCHR | 0o640}, &a)
				if err == nil {
					u.Forget(n, 1)
				}
				return err
			}))
			must(t, u.in("lower", func(from *Node, old string) error {
				return u.in("dir/moved", func(to *Node, name string) error {
					return u.Rename(me, from, old, to, name, unix.RENAME_WHITEOUT)
				})
			}))
			must(t, u.chmod("lower", 0o604))
			must(t, u.unlink("over"))
			want := map[string]uint32{"dir/made": 0o640, "lower": 0o604}
			for round := range 2 {
				for path, perm := range want {
					a := u.attr(path)
					if a.Mode != unix.S_IFCHR|perm || a.Rdev != 0 || a.UID != me.UID {
						t.Errorf("round %d: %s has mode %o, device %d, owner %d", round, path, a.Mode, a.Rdev, a.UID)
					}
				}
				types := map[string]uint8{}
				must(t, u.with("dir", func(n *Node) error {
					return u.ReadDir(n, 0, func(e DirEntry) bool { types[e.Name] = e.Type; return true })
				}))
				if types["made"] != unix.DT_CHR || types["moved"] != unix.DT_REG {
					t.Errorf("round %d: the directory lists types %v", round, types)
				}
				u.reopen()
			}
			must(t, u.unlink("lower"))
			must(t, u.unlink("dir/made"))
			u.reopen()
			for _, path := range []string{"lower", "dir/made", "over"} {
				if err := u.with(path, func(*Node) error { return nil }); err != unix.ENOENT {
					t.Errorf("%s: %v after it was removed", path, err)
				}
			}
			if u.content("dir/moved") != "text" {
				t.Errorf("the file that moved holds %q", u.content("dir/moved"))
			}
		})
	}
}
