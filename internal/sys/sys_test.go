package sys

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mica/internal/testenv"
)

// TestMain runs the tests as a plain user.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func dir(t *testing.T) (path string, fd int) {
	t.Helper()
	path = t.TempDir()
	fd, err := OpenDir(unix.AT_FDCWD, path)
	must(t, err)
	t.Cleanup(func() { Close(fd) })
	return path, fd
}

// TestNoSymlink: no call leaves the directory that it is given.
func TestNoSymlink(t *testing.T) {
	path, fd := dir(t)
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "file"), nil, 0o600))
	must(t, os.Symlink(outside, filepath.Join(path, "dir")))
	must(t, os.Symlink(filepath.Join(outside, "file"), filepath.Join(path, "link")))
	must(t, os.Mkdir(filepath.Join(path, "sub"), 0o700))
	for name, err := range map[string]error{
		"Open":                   second(Open(fd, "link", unix.O_RDONLY, 0)),
		"OpenDir":                second(OpenDir(fd, "dir")),
		"OpenBeneath link":       second(OpenBeneath(fd, "link", unix.O_RDONLY, 0)),
		"OpenBeneath through":    second(OpenBeneath(fd, "dir/file", unix.O_RDONLY, 0)),
		"OpenBeneath above":      second(OpenBeneath(fd, "..", unix.O_RDONLY, 0)),
		"OpenBeneath back":       second(OpenBeneath(fd, "sub/../..", unix.O_RDONLY, 0)),
		"OpenBeneath absolute":   second(OpenBeneath(fd, outside, unix.O_RDONLY, 0)),
		"OpenBeneath made there": second(OpenBeneath(fd, "dir/new", unix.O_RDWR|unix.O_CREAT, 0o600)),
	} {
		if err != unix.ELOOP && err != unix.EXDEV && err != unix.ENOTDIR {
			t.Errorf("%s: %v", name, err)
		}
	}
	var st unix.Statx_t
	must(t, Stat(fd, "link", &st))
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("Stat follows: mode %o", st.Mode)
	}
	if err := Setxattr(fd, "link", "user.a", nil, 0); err == nil {
		t.Error("Setxattr follows")
	}
}

func second(fd int, err error) error {
	Close(fd)
	return err
}

func TestReadlink(t *testing.T) {
	path, fd := dir(t)
	for _, size := range []int{1, 255, 256, 257, 4000} {
		want := strings.Repeat("t", size)
		name := fmt.Sprint(size)
		must(t, os.Symlink(want, filepath.Join(path, name)))
		if got, err := Readlink(fd, name); err != nil || got != want {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
}

func TestList(t *testing.T) {
	path, fd := dir(t)
	want := []string{"...", "..a", ".hidden", "\xff\xfe", strings.Repeat("n", 255)}
	for i := range 3000 { // more than one buffer
		want = append(want, fmt.Sprint(i))
	}
	for _, name := range want {
		must(t, os.WriteFile(filepath.Join(path, name), nil, 0o600))
	}
	slices.Sort(want)
	for range 2 { // again from the begin
		var got []string
		must(t, List(fd, func(name []byte, typ uint8, ino uint64) error {
			if typ != unix.DT_REG || ino == 0 {
				t.Errorf("%q: type %d, inode %d", name, typ, ino)
			}
			got = append(got, string(name))
			return nil
		}))
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("%d names, want %d", len(got), len(want))
		}
	}
	stop := errors.New("stop")
	if err := List(fd, func([]byte, uint8, uint64) error { return stop }); err != stop {
		t.Errorf("stopped with %v", err)
	}
}

// TestXattr checks every call on a name and on the descriptor itself, by the
// calls of Linux 6.13 and by those before them.
func TestXattr(t *testing.T) {
	defer noXattrAt.Store(noXattrAt.Load())
	for _, old := range []bool{false, true} {
		path, fd := dir(t)
		must(t, os.WriteFile(filepath.Join(path, "file"), nil, 0o600))
		for _, name := range []string{"file", ""} {
			noXattrAt.Store(old)
			values := map[string][]byte{"user.empty": {}, "user.short": []byte("v"), "user.long": bytes.Repeat([]byte("v"), 1500)}
			for attr, value := range values {
				must(t, Setxattr(fd, name, attr, value, unix.XATTR_CREATE))
				if err := Setxattr(fd, name, attr, value, unix.XATTR_CREATE); err != unix.EEXIST {
					t.Errorf("set %s twice: %v", attr, err)
				}
				if got, err := GetxattrAll(fd, name, attr); err != nil || !bytes.Equal(got, value) {
					t.Errorf("%s of %q: %q, %v", attr, name, got, err)
				}
				if size, err := Getxattr(fd, name, attr, nil); err != nil || size != len(value) {
					t.Errorf("size of %s: %d, %v", attr, size, err)
				}
			}
			if _, err := Getxattr(fd, name, "user.long", make([]byte, 10)); err != unix.ERANGE {
				t.Errorf("a short buffer: %v", err)
			}
			for i := range 30 { // more names than the first buffer takes
				must(t, Setxattr(fd, name, fmt.Sprintf("user.name-%020d", i), nil, 0))
			}
			if names, err := Listxattr(fd, name); err != nil || len(names) != 33 {
				t.Errorf("%d names, %v", len(names), err)
			}
			must(t, Removexattr(fd, name, "user.short"))
			if err := Removexattr(fd, name, "user.short"); err != unix.ENODATA {
				t.Errorf("remove twice: %v", err)
			}
			if _, err := GetxattrAll(fd, name, "user.short"); err != unix.ENODATA {
				t.Errorf("read what was removed: %v", err)
			}
		}
	}
}

// TestXattrAgrees: the calls before Linux 6.13 find the same object as those since, and fail like them, however it is named.
func TestXattrAgrees(t *testing.T) {
	defer noXattrAt.Store(noXattrAt.Load())
	path, fd := dir(t)
	t.Chdir(path)
	long := strings.Repeat("n", 255)
	deep := path + strings.Repeat("/.", 2030-len(path)/2) + "/file" // more than a magic link before it leaves room for
	for _, name := range []string{"file", long} {
		must(t, os.WriteFile(name, nil, 0o600))
	}
	must(t, os.Symlink("file", "link"))
	opened := func(name string, flags int) int {
		fd, err := Open(fd, name, flags, 0)
		must(t, err)
		t.Cleanup(func() { Close(fd) })
		return fd
	}
	for _, c := range []struct {
		what  string
		dirfd int
		name  string
	}{
		{"name", fd, "file"}, {"long name", fd, long}, {"symlink", fd, "link"}, {"absent", fd, "absent"}, {"below a file", fd, "file/x"},
		{"too long", fd, long + "n"},
		{"relative", unix.AT_FDCWD, "file"}, {"absolute", unix.AT_FDCWD, filepath.Join(path, "file")}, {"deep", unix.AT_FDCWD, deep},
		{"relative symlink", unix.AT_FDCWD, "link"}, {"working directory", unix.AT_FDCWD, "."},
		{"itself", fd, ""}, {"file itself", opened("file", unix.O_RDONLY), ""},
		{"O_PATH", opened("file", unix.O_PATH), ""}, {"O_PATH of a symlink", opened("link", unix.O_PATH|unix.O_NOFOLLOW), ""},
		{"in O_PATH", opened(".", unix.O_PATH|unix.O_DIRECTORY), "file"}, {"below no directory", opened("file", unix.O_PATH), "x"},
	} {
		var results [2]string
		for i, old := range []bool{false, true} {
			noXattrAt.Store(old)
			set := Setxattr(c.dirfd, c.name, "user.a", []byte("value"), 0)
			value, get := GetxattrAll(c.dirfd, c.name, "user.a")
			names, list := Listxattr(c.dirfd, c.name)
			_, absent := GetxattrAll(c.dirfd, c.name, "user.absent")
			var at []string // which of them it was
			for _, name := range []string{".", "file", long, "link"} {
				if _, err := unix.Lgetxattr(name, "user.a", nil); err == nil {
					at = append(at, name)
				}
			}
			remove := Removexattr(c.dirfd, c.name, "user.a")
			results[i] = fmt.Sprintf("set %v, get %q %v, list %q %v, absent %v, at %.9q, remove %v", set, value, get, names, list, absent, at, remove)
		}
		if results[0] != results[1] {
			t.Errorf("%s:\nsince 6.13: %s\nbefore:     %s", c.what, results[0], results[1])
		}
	}
}

// TestCopyData: content and holes come through, whatever their order.
func TestCopyData(t *testing.T) {
	const block = 64 << 10
	for _, pattern := range []string{"", "d", "h", "dh", "hd", "dhdh", "hhdd", "ddddhhhhd"} {
		path, _ := dir(t)
		src, err := os.Create(filepath.Join(path, "src"))
		must(t, err)
		size := int64(len(pattern)*block) + 100*int64(min(len(pattern), 1))
		must(t, src.Truncate(size))
		for i, kind := range pattern {
			if kind == 'd' {
				_, err := src.WriteAt(bytes.Repeat([]byte{byte('a' + i)}, block), int64(i*block))
				must(t, err)
			}
		}
		dst, err := os.Create(filepath.Join(path, "dst"))
		must(t, err)
		must(t, CopyData(int(dst.Fd()), int(src.Fd()), size))
		want, _ := os.ReadFile(src.Name())
		if got, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: %d bytes, %v", pattern, len(got), err)
		}
		var a, b unix.Stat_t
		must(t, unix.Fstat(int(src.Fd()), &a))
		must(t, unix.Fstat(int(dst.Fd()), &b))
		if b.Blocks > a.Blocks {
			t.Errorf("%q: %d blocks became %d", pattern, a.Blocks, b.Blocks)
		}
		src.Close()
		dst.Close()
	}
}

func TestPread(t *testing.T) {
	path, fd := dir(t)
	must(t, os.WriteFile(filepath.Join(path, "f"), []byte("12345"), 0o600))
	f, err := Open(fd, "f", unix.O_RDWR, 0)
	must(t, err)
	defer Close(f)
	buf := make([]byte, 4)
	for _, c := range []struct {
		off  int64
		want string
		err  error
	}{{0, "1234", nil}, {1, "2345", nil}, {3, "45", io.EOF}, {5, "", io.EOF}, {9, "", io.EOF}} {
		if n, err := Pread(f, buf, c.off); string(buf[:n]) != c.want || err != c.err {
			t.Errorf("at %d: %q, %v", c.off, buf[:n], err)
		}
	}
	must(t, PwriteFull(f, []byte("xy"), 4))
	if text, _ := os.ReadFile(filepath.Join(path, "f")); string(text) != "1234xy" {
		t.Errorf("written: %q", text)
	}
}

func TestErrno(t *testing.T) {
	for _, c := range []struct {
		err  error
		want unix.Errno
	}{
		{nil, 0},
		{unix.ENOSPC, unix.ENOSPC},
		{fmt.Errorf("copy up: %w", unix.ENOSPC), unix.ENOSPC},
		{&os.PathError{Op: "open", Path: "f", Err: unix.EMFILE}, unix.EMFILE},
		{errors.New("else"), unix.EIO},
	} {
		if got := Errno(c.err); got != c.want {
			t.Errorf("%v: %v, want %v", c.err, got, c.want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestWriteSparse: zeros become holes wherever a write begins, and nothing else does.
func TestWriteSparse(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	must(t, err)
	defer f.Close()
	data := make([]byte, 1<<20)
	for _, at := range []int{0, 5000, 300_000, 1<<20 - 1} {
		data[at] = 1
	}
	for off := 0; off < len(data); {
		n := min(33_333, len(data)-off)
		must(t, WriteSparse(int(f.Fd()), data[off:off+n], int64(off)))
		off += n
	}
	got, err := os.ReadFile(f.Name())
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Error("content differs")
	}
	var st unix.Stat_t
	must(t, unix.Fstat(int(f.Fd()), &st))
	if st.Blocks*512 > 64<<10 {
		t.Errorf("it takes %d bytes", st.Blocks*512)
	}
}
