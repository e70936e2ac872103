package fs_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
)

// TestDeviations shows what docs/deviations.md says of a mount, where no other
// test does.
func TestDeviations(t *testing.T) {
	l := lowers(t, 2)
	write := func(dir, name string) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, make([]byte, 8192), 0o644))
		return path
	}
	lower := write(l[0], "file")
	must(t, os.Chtimes(lower, epoch, time.Time{}))
	must(t, os.Chtimes(l[0], epoch, time.Time{}))
	hidden := write(l[1], "a")
	must(t, os.Link(hidden, filepath.Join(l[1], "b")))
	write(l[0], "b") // hides the second name
	m := mountUnion(t, cow.Config{Lowers: real(l...)})
	at := func(name string) string { return filepath.Join(m.dir, name) }

	t.Run("names of whiteouts", func(t *testing.T) {
		if err := unix.Mkdir(at(".wh.x"), 0o755); err != unix.EPERM {
			t.Error(err)
		}
	})
	t.Run("access times of layers", func(t *testing.T) {
		_, err := os.ReadFile(at("file"))
		must(t, err)
		_, err = os.ReadDir(m.dir)
		must(t, err)
		for _, path := range []string{lower, l[0]} {
			var st unix.Stat_t
			must(t, unix.Stat(path, &st))
			if st.Atim.Sec != epoch.Unix() {
				t.Errorf("%s was accessed at %d", path, st.Atim.Sec)
			}
		}
	})
	t.Run("link count with hidden names", func(t *testing.T) {
		var st unix.Stat_t
		must(t, unix.Stat(at("a"), &st))
		if st.Nlink != 2 {
			t.Errorf("%d links: what the lower layer says is 2", st.Nlink)
		}
	})
	t.Run("inode flags and moved ranges", func(t *testing.T) {
		fd, err := unix.Open(at("file"), unix.O_RDWR|unix.O_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(fd)
		flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
		must(t, err)
		if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags)); err != unix.ENOTTY {
			t.Errorf("set flags: %v", err)
		}
		for _, mode := range []uint32{unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE} {
			if err := unix.Fallocate(fd, mode, 0, 4096); err != unix.EOPNOTSUPP {
				t.Errorf("mode %#x: %v", mode, err)
			}
		}
	})
}

// TestBirthTime: a server tells birth times to a kernel that asks for them.
func TestBirthTime(t *testing.T) {
	m := passing(t)
	for _, name := range []string{"", "small"} {
		var st unix.Statx_t
		must(t, unix.Statx(unix.AT_FDCWD, filepath.Join(m.dir, name), 0, unix.STATX_BTIME, &st))
		if st.Mask&unix.STATX_BTIME == 0 {
			if m.ended().Requests["STATX"] == 0 {
				t.Skip("this kernel has no FUSE_STATX, which came with Linux 6.6: nothing shows birth times")
			}
			t.Fatalf("%q has no birth time", name)
		}
	}
}

// TestNoAtime: who opens a file with O_NOATIME does not change its access time, where others do.
func TestNoAtime(t *testing.T) {
	m := mountUnion(t, cow.Config{Lowers: real(lowers(t, 1)...)})
	for flags, kept := range map[int]bool{unix.O_NOATIME: true, 0: false} {
		path := filepath.Join(m.dir, "file")
		must(t, os.WriteFile(path, make([]byte, 8192), 0o644))
		must(t, os.Chtimes(path, epoch, epoch.Add(time.Second)))
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|flags, 0)
		must(t, err)
		must(t, unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED))
		_, err = unix.Read(fd, make([]byte, 100))
		must(t, err)
		must(t, unix.Close(fd))
		var st unix.Stat_t
		must(t, unix.Stat(path, &st))
		if (st.Atim.Sec == epoch.Unix()) != kept {
			t.Errorf("with flags %#o the access time is %d", flags, st.Atim.Sec)
		}
	}
}
