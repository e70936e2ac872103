package cow

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRemovedDirectory: a removed directory that is still open can be changed,
// wherever it was.
func TestRemovedDirectory(t *testing.T) {
	cfg := layers(t, tree{"lower/": "", "merged/": ""}, tree{"merged/": ""})
	u := open(t, cfg)
	must(t, u.mkdir("new"))
	for _, name := range []string{"lower", "merged", "new"} {
		n, err := u.walk(name)
		must(t, err)
		var before Attr
		must(t, u.Getattr(n, &before))
		must(t, u.rmdir(name))
		mode, uid := uint32(0o700), uint32(7)
		var a Attr
		must(t, u.Setattr(n, SetAttr{Mode: &mode, UID: &uid}, &a))
		if a.Mode != unix.S_IFDIR|0o700 || a.UID != 7 || a.Nlink != 0 || a.Ino != before.Ino {
			t.Errorf("%s: %+v after it was removed", name, a)
		}
		must(t, u.Setxattr(n, "user.x", []byte("value"), 0, false))
		var buf [16]byte
		size, err := u.Getxattr(n, "user.x", buf[:])
		must(t, err)
		if string(buf[:size]) != "value" {
			t.Errorf("%s: the attribute is %q", name, buf[:size])
		}
		if names, err := u.names(n); err != nil || len(names) > 0 {
			t.Errorf("%s: has %q, %v", name, names, err)
		}
		u.Forget(n, 1)
	}
	if left, err := os.ReadDir(cfg.Work + "/staging"); err != nil || len(left) > 0 {
		t.Errorf("left in staging: %v, %v", left, err)
	}
}
