package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mica/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.MainAsRoot(m)) }

// steps notes what a volume's helper is asked for, and does it.
type steps []string

func (s *steps) help(op, dir string) error {
	*s = append(*s, op)
	if op == "settle" {
		return Settle(dir)
	}
	return Restore(dir)
}

// TestAsRootOwners: a volume's directories change hands once, whatever they are called, and at whichever of the two sides a
// helper dies half-way.
func TestAsRootOwners(t *testing.T) {
	v, err := Open(filepath.Join(t.TempDir(), "volumes")).Create("v", nil)
	must(t, err)
	dirs := map[string]uint32{"plain": 0o750, "not \xff UTF-8\n": 0o500, "two words": 0o2755, "two words/sub": 0, "away": 0o755, "swapped": 0o700}
	uid, gid := 70, 71
	if os.Geteuid() != 0 { // only modes can change
		uid, gid, dirs["two words/sub"] = os.Geteuid(), os.Getegid(), 0o500
	}
	for _, name := range []string{"plain", "not \xff UTF-8\n", "two words", "two words/sub", "away", "swapped"} {
		must(t, os.Mkdir(filepath.Join(v.Data, name), 0o700))
	}
	var s steps
	hold, err := v.Hold(s.help)
	must(t, err)
	for name, mode := range dirs {
		must(t, os.Chown(filepath.Join(v.Data, name), uid, gid))
		must(t, unix.Chmod(filepath.Join(v.Data, name), mode))
	}
	second, err := v.Hold(s.help)
	must(t, err)
	must(t, hold.Release(s.help))
	if len(s) != 0 {
		t.Fatalf("while it is used: %q", s)
	}
	must(t, second.Release(s.help))
	for name := range dirs {
		if st := stat(t, filepath.Join(v.Data, name)); !own(st) || int(st.Gid) != gid {
			t.Errorf("settled %q: %d:%d %o", name, st.Uid, st.Gid, st.Mode)
		}
	}

	// Half-way: one of them has not been given to the user.
	must(t, unix.Chmod(filepath.Join(v.Data, "not \xff UTF-8\n"), 0o500))
	must(t, v.Settle(s.help))
	must(t, os.Remove(filepath.Join(v.Data, "away")))
	must(t, os.Remove(filepath.Join(v.Data, "swapped")))
	must(t, os.Symlink("/", filepath.Join(v.Data, "swapped")))
	host := *stat(t, "/")
	hold, err = v.Hold(s.help)
	must(t, err)
	for name, mode := range dirs {
		if name == "away" || name == "swapped" {
			continue
		}
		if st := stat(t, filepath.Join(v.Data, name)); int(st.Uid) != uid || st.Mode&0o7777 != mode {
			t.Errorf("restored %q: %d:%d %o, want mode %o", name, st.Uid, st.Gid, st.Mode, mode)
		}
	}
	if now := stat(t, "/"); now.Uid != host.Uid || now.Mode != host.Mode {
		t.Errorf("the host's root has become %d %o", now.Uid, now.Mode)
	}
	must(t, hold.Release(s.help))
	if got := strings.Join(s, " "); got != "settle restore settle restore settle" {
		t.Errorf("asked for %s", got)
	}
}

// TestLongPaths: a way that no call takes, and beside it a short one.
func TestLongPaths(t *testing.T) {
	v, err := Open(filepath.Join(t.TempDir(), "volumes")).Create("v", nil)
	must(t, err)
	name := strings.Repeat("n", 200)
	const depth = 2 * unix.PathMax / 200
	each := func(do func(fd int)) {
		fd, err := unix.Open(v.Data, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		must(t, err)
		for range depth {
			_ = unix.Mkdirat(fd, name, 0o700)
			below, err := unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
			must(t, err)
			unix.Close(fd)
			fd = below
			do(fd)
		}
		unix.Close(fd)
	}
	each(func(fd int) { must(t, unix.Mkdirat(fd, "z", 0o700)) })
	each(func(fd int) { must(t, unix.Fchmodat(fd, "z", 0o570, 0)); must(t, unix.Fchmod(fd, 0o550)) })
	modes := func(want uint32) {
		t.Helper()
		each(func(fd int) {
			var st, z unix.Stat_t
			must(t, unix.Fstat(fd, &st))
			must(t, unix.Fstatat(fd, "z", &z, 0))
			if st.Mode&0o777 != 0o550|want || z.Mode&0o777 != 0o570|want {
				t.Fatalf("modes %o, %o", st.Mode, z.Mode)
			}
		})
	}
	must(t, Settle(filepath.Dir(v.Data)))
	modes(0o700)
	st, err := os.Stat(filepath.Join(filepath.Dir(v.Data), ownersFile))
	must(t, err)
	if st.Size() > depth*300 {
		t.Errorf("the list has %d bytes", st.Size())
	}
	must(t, Restore(filepath.Dir(v.Data)))
	modes(0)
	must(t, Settle(filepath.Dir(v.Data)))
}

// TestContentElsewhere: a volume whose content the user has put elsewhere works, and is left alone.
func TestContentElsewhere(t *testing.T) {
	v, err := Open(filepath.Join(t.TempDir(), "volumes")).Create("v", nil)
	must(t, err)
	must(t, os.Remove(v.Data))
	must(t, os.Symlink(t.TempDir(), v.Data))
	var s steps
	hold, err := v.Hold(s.help)
	must(t, err)
	must(t, hold.Release(s.help))
	if len(s) != 0 {
		t.Errorf("asked for %q", s)
	}
}

// TestOldOwners: lists with whole paths are read still.
func TestOldOwners(t *testing.T) {
	v, err := Open(filepath.Join(t.TempDir(), "volumes")).Create("v", nil)
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(v.Data, "a/b"), 0o700))
	must(t, os.Mkdir(filepath.Join(v.Data, "c"), 0o700))
	list := ""
	for _, line := range []string{"500 gone", "510 gone/b", "520 a/b", "530 c"} {
		list += fmt.Sprintf("%d %s\x00", os.Geteuid(), line)
	}
	must(t, os.WriteFile(filepath.Join(filepath.Dir(v.Data), ownersFile), []byte(list), 0o600))
	must(t, Restore(filepath.Dir(v.Data)))
	for name, mode := range map[string]uint32{"a/b": 0o520, "c": 0o530, "a": 0o700} {
		if st := stat(t, filepath.Join(v.Data, name)); st.Mode&0o777 != mode {
			t.Errorf("%s has mode %o, want %o", name, st.Mode, mode)
		}
	}
}

// TestDamagedOwners: a list that is damaged is said to be, and nothing is lost.
func TestDamagedOwners(t *testing.T) {
	v, err := Open(filepath.Join(t.TempDir(), "volumes")).Create("v", nil)
	must(t, err)
	list := filepath.Join(filepath.Dir(v.Data), ownersFile)
	for _, text := range []string{"1", "x 755 a\x00", "1 755 a", "1 755 \x00", "1 755 /x/a\x00", "1 755 /0\x00", "1 755 /0/a\x001 755 /2/b\x00"} {
		must(t, os.WriteFile(list, []byte(text), 0o600))
		var s steps
		if _, err := v.Hold(s.help); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%q: %v", text, err)
		}
		if _, err := os.Stat(list); err != nil {
			t.Error(err)
		}
	}
	boom := errors.New("boom")
	if _, err := v.Hold(func(string, string) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("%v", err)
	}
}

func stat(t *testing.T, path string) *unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Lstat(path, &st))
	return &st
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
