package fs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mica/cow"
)

// Each test here is named for a bug of another union filesystem that a user
// has met, and shows that this one does not have it.

// fuse-overlayfs #475: of two hard-linked lower files one is rewritten; after
// a remount the other name showed the old content, padded with NULs.
func TestPeerBug475LinkedLowerRewrittenThenRemounted(t *testing.T) {
	l := lowers(t, 1)
	put(t, l[0]+"/a", strings.Repeat("old ", 1000))
	must(t, os.Link(l[0]+"/a", l[0]+"/b"))
	m := mountUnion(t, cow.Config{Lowers: real(l...)})
	put(t, m.dir+"/a", "new")
	for _, when := range []string{"before", "after"} {
		for _, name := range []string{"a", "b"} {
			if got := get(t, m.dir+"/"+name); got != "new" {
				t.Errorf("%s the remount %s holds %q", when, name, got)
			}
		}
		if ino(t, m.dir+"/a") != ino(t, m.dir+"/b") || nlink(t, m.dir+"/a") != 2 {
			t.Errorf("%s the remount the names are not links of each other", when)
		}
		m.remount()
	}
}

// fuse-overlayfs #332: renaming a directory of a lower layer gave EXDEV.
func TestPeerBug332RenameLowerDirectory(t *testing.T) {
	l := lowers(t, 2)
	put(t, l[0]+"/d/sub/low", "low")
	put(t, l[1]+"/d/sub/mid", "mid")
	put(t, l[1]+"/other/x", "x")
	m := mountUnion(t, cow.Config{Lowers: real(l[1], l[0])})
	must(t, os.Rename(m.dir+"/d", m.dir+"/other/e"))
	must(t, os.Rename(m.dir+"/other", m.dir+"/again"))
	for range 2 {
		if got := get(t, m.dir+"/again/e/sub/low") + get(t, m.dir+"/again/e/sub/mid") + get(t, m.dir+"/again/x"); got != "lowmidx" {
			t.Errorf("content after renames is %q", got)
		}
		if names(t, m.dir) != "again" {
			t.Errorf("the root lists %q", names(t, m.dir))
		}
		m.remount()
	}
}

// fuse-overlayfs #60: a chmod copied the whole file up, and its holes were
// filled.
func TestPeerBug60ChmodCopiesNothing(t *testing.T) {
	l := lowers(t, 1)
	f, err := os.Create(l[0] + "/big")
	must(t, err)
	must(t, f.Truncate(1<<40))
	_, err = f.WriteAt([]byte("end"), 1<<40-3)
	must(t, err)
	must(t, f.Close())
	m := mountUnion(t, cow.Config{Lowers: real(l...)})
	must(t, os.Chmod(m.dir+"/big", 0o600))
	must(t, os.Chtimes(m.dir+"/big", epoch, epoch))
	must(t, unix.Setxattr(m.dir+"/big", "user.x", []byte("y"), 0))
	must(t, os.Rename(m.dir+"/big", m.dir+"/large"))
	var st unix.Stat_t
	must(t, unix.Stat(m.dir+"/large", &st))
	if st.Size != 1<<40 || st.Mode&0o777 != 0o600 || st.Blocks*512 > 1<<20 {
		t.Errorf("size %d, mode %o, %d bytes of blocks", st.Size, st.Mode, st.Blocks*512)
	}
	if n := diskUse(t, m.upper()); n > 1<<20 {
		t.Errorf("the upper directory uses %d bytes", n)
	}
	f, err = os.OpenFile(m.dir+"/large", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	_, err = f.WriteAt([]byte("middle"), 1<<39)
	must(t, err)
	must(t, f.Sync())
	if n := diskUse(t, m.upper()); n > 16<<20 {
		t.Errorf("after a write of 6 bytes the upper directory uses %d bytes", n)
	}
	if hole, err := unix.Seek(int(f.Fd()), 0, unix.SEEK_DATA); err != nil || hole < 1<<39-(16<<20) {
		t.Errorf("data begins at %d: %v", hole, err)
	}
	buf := make([]byte, 3)
	_, err = f.ReadAt(buf, 1<<40-3)
	must(t, err)
	if string(buf) != "end" {
		t.Errorf("the end reads %q", buf)
	}
}

// fuse-overlayfs #324 and #425: what was deleted, or lay below an opaque
// directory, showed again.
func TestPeerBug324DeletedStaysDeleted(t *testing.T) {
	l := lowers(t, 2)
	put(t, l[0]+"/d/old", "")
	put(t, l[0]+"/d/sub/old", "")
	put(t, l[0]+"/gone", "")
	put(t, l[1]+"/d/mid", "")
	m := mountUnion(t, cow.Config{Lowers: real(l[1], l[0])})
	must(t, os.Remove(m.dir+"/gone"))
	must(t, os.RemoveAll(m.dir+"/d"))
	must(t, os.Mkdir(m.dir+"/d", 0o755))
	must(t, os.Mkdir(m.dir+"/d/sub", 0o755))
	put(t, m.dir+"/d/new", "")
	for range 2 {
		if got := names(t, m.dir) + " " + names(t, m.dir+"/d") + " " + names(t, m.dir+"/d/sub"); got != "d new sub " {
			t.Errorf("the tree lists %q", got)
		}
		m.remount()
	}
}

// fuse-overlayfs #425: an opaque directory of a middle layer let a lower one
// shine through once it was copied up.
func TestPeerBug425OpaqueSurvivesCopyUp(t *testing.T) {
	for _, mark := range []string{"user.overlay.opaque", "user.fuseoverlayfs.opaque", ".wh..wh..opq"} {
		l := lowers(t, 2)
		put(t, l[0]+"/d/old", "")
		put(t, l[1]+"/d/mid", "")
		if strings.HasPrefix(mark, "user.") {
			must(t, unix.Setxattr(l[1]+"/d", mark, []byte("y"), 0))
		} else {
			put(t, l[1]+"/d/"+mark, "")
		}
		m := mountUnion(t, cow.Config{Lowers: real(l[1], l[0])})
		must(t, os.Chmod(m.dir+"/d", 0o700))
		put(t, m.dir+"/d/new", "")
		must(t, os.Rename(m.dir+"/d", m.dir+"/e"))
		for range 2 {
			if got := names(t, m.dir+"/e"); got != "mid new" {
				t.Errorf("%s: the directory lists %q", mark, got)
			}
			m.remount()
		}
		m.close()
	}
}

// fuse-overlayfs #34: descriptors ran out.
func TestPeerBug34DescriptorsAreBounded(t *testing.T) {
	const files, limit = 1000, 100
	l := lowers(t, 1)
	for i := range files {
		put(t, fmt.Sprintf("%s/%d/%d/f", l[0], i%40, i), "x")
	}
	m := mountUnion(t, cow.Config{Lowers: real(l...), MaxFDs: limit})
	for i := range files {
		name := fmt.Sprintf("%s/%d/%d/f", m.dir, i%40, i)
		get(t, name)
		if i%2 == 0 {
			put(t, name, "changed")
		}
	}
	if n := m.descriptors(); n > limit+30 {
		t.Errorf("%d descriptors are open, with a bound of %d", n, limit)
	}
}

// fuse-overlayfs refused 501 layers.
func TestPeerBugManyLayers(t *testing.T) {
	const n = 501
	l := lowers(t, n)
	for i := range l {
		put(t, fmt.Sprintf("%s/d/%d", l[i], i), "x")
		put(t, l[i]+"/same", fmt.Sprint(i))
	}
	m := mountUnion(t, cow.Config{Lowers: real(l...)})
	if got := len(strings.Fields(names(t, m.dir+"/d"))); got != n {
		t.Errorf("%d names of %d show", got, n)
	}
	if got := get(t, m.dir+"/same"); got != "0" {
		t.Errorf("the file of layer %s shows, not that of the topmost", got)
	}
}

// fuse-overlayfs #364: a mountpoint inside a lower layer hung.
func TestPeerBug364MountpointInsideLower(t *testing.T) {
	base := tempDir(t)
	put(t, base+"/f", "f")
	dir := base + "/mnt"
	must(t, os.Mkdir(dir, 0o755))
	m := mountAt(t, dir, cow.Config{Lowers: real(base), SkipMount: dir})
	if got := names(t, m.dir); got != "f mnt" {
		t.Errorf("the root lists %q", got)
	}
	if got := names(t, m.dir+"/mnt"); got != "" {
		t.Errorf("the mountpoint lists %q inside the mount", got)
	}
	put(t, m.dir+"/mnt/g", "g")
	if got := names(t, m.dir+"/mnt"); got != "g" {
		t.Errorf("the mountpoint lists %q inside the mount", got)
	}
}

// Kernel overlayfs copies a whole file up when it is opened for writing.
func TestPeerBugOpenForWriteCopiesNothing(t *testing.T) {
	l := lowers(t, 1)
	put(t, l[0]+"/big", strings.Repeat("x", 32<<20))
	m := mountUnion(t, cow.Config{Lowers: real(l...)})
	f, err := os.OpenFile(m.dir+"/big", os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	if n := diskUse(t, m.upper()); n > 1<<20 {
		t.Errorf("the open put %d bytes into the upper directory", n)
	}
	_, err = f.WriteAt([]byte("y"), 12345)
	must(t, err)
	must(t, f.Sync())
	if n := diskUse(t, m.upper()); n > 4<<20 {
		t.Errorf("one byte written put %d bytes into the upper directory", n)
	}
}

// Kernel overlayfs breaks hard links of a lower layer when one is changed.
func TestPeerBugHardLinksHold(t *testing.T) {
	l := lowers(t, 1)
	put(t, l[0]+"/a", "1")
	must(t, os.MkdirAll(l[0]+"/d", 0o755))
	must(t, os.Link(l[0]+"/a", l[0]+"/d/b"))
	must(t, os.Link(l[0]+"/a", l[0]+"/c"))
	m := mountUnion(t, cow.Config{Lowers: real(l...)})
	must(t, os.Chmod(m.dir+"/a", 0o640))
	must(t, os.Rename(m.dir+"/d", m.dir+"/e"))
	must(t, os.Remove(m.dir+"/a"))
	put(t, m.dir+"/c", "2")
	must(t, os.Link(m.dir+"/c", m.dir+"/n"))
	for range 2 {
		for _, name := range []string{"c", "e/b", "n"} {
			p := m.dir + "/" + name
			if get(t, p) != "2" || nlink(t, p) != 3 || ino(t, p) != ino(t, m.dir+"/c") {
				t.Errorf("%s holds %q, has %d links and inode %d, not %d", name, get(t, p), nlink(t, p), ino(t, p), ino(t, m.dir+"/c"))
			}
		}
		m.remount()
	}
}

// Kernel overlayfs leaves a read-only shared mapping, and a file opened for
// reading, with the old content after a copy-up.
func TestPeerBugReadersSeeCopyUp(t *testing.T) {
	l := lowers(t, 1)
	put(t, l[0]+"/f", strings.Repeat("old.", 4096))
	m := mountUnion(t, cow.Config{Lowers: real(l...)})
	r, err := os.Open(m.dir + "/f")
	must(t, err)
	defer r.Close()
	mem, err := unix.Mmap(int(r.Fd()), 0, 16384, unix.PROT_READ, unix.MAP_SHARED)
	must(t, err)
	defer unix.Munmap(mem)
	if mem[0] != 'o' || mem[8192] != 'o' {
		t.Fatal("the mapping does not hold the lower file")
	}
	w, err := os.OpenFile(m.dir+"/f", os.O_RDWR, 0)
	must(t, err)
	defer w.Close()
	_, err = w.WriteAt([]byte("new!"), 8192)
	must(t, err)
	buf := make([]byte, 4)
	_, err = r.ReadAt(buf, 8192)
	must(t, err)
	if string(buf) != "new!" || !bytes.Equal(mem[8192:8196], buf) || string(mem[:4]) != "old." {
		t.Errorf("the reader sees %q, the mapping %q and %q", buf, mem[8192:8196], mem[:4])
	}
}

// Kernel overlayfs changes inode numbers at copy-up unless all layers are on
// one filesystem, and at remounts of directories.
func TestPeerBugInodeNumbersStay(t *testing.T) {
	l := lowers(t, 2)
	put(t, l[0]+"/d/f", "f")
	put(t, l[1]+"/d/g", "g")
	m := mountUnion(t, cow.Config{Lowers: real(l[1], l[0])})
	was := map[string]uint64{}
	paths := []string{"", "d", "d/f", "d/g"}
	for _, p := range paths {
		was[p] = ino(t, m.dir+"/"+p)
	}
	put(t, m.dir+"/d/f", "changed")
	must(t, os.Chmod(m.dir+"/d/g", 0o600))
	for range 2 {
		for _, p := range paths {
			if got := ino(t, m.dir+"/"+p); got != was[p] {
				t.Errorf("inode of %q was %d and is %d", p, was[p], got)
			}
		}
		m.remount()
	}
}

// descriptors counts the files that the server has open.
func (m *mount) descriptors() int {
	m.t.Helper()
	d, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", m.server.Process.Pid))
	must(m.t, err)
	return len(d)
}

func names(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	must(t, err)
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	sort.Strings(out)
	return strings.Join(out, " ")
}

func put(t *testing.T, path, content string) {
	t.Helper()
	err := os.WriteFile(path, []byte(content), 0o644)
	if errors.Is(err, os.ErrNotExist) {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		err = os.WriteFile(path, []byte(content), 0o644)
	}
	must(t, err)
}

func get(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func lstat(t *testing.T, path string) (st unix.Stat_t) {
	t.Helper()
	must(t, unix.Lstat(path, &st))
	return st
}

func ino(t *testing.T, path string) uint64   { t.Helper(); return lstat(t, path).Ino }
func nlink(t *testing.T, path string) uint64 { t.Helper(); return uint64(lstat(t, path).Nlink) }

// diskUse is how much a directory's files use, in bytes.
func diskUse(t *testing.T, dir string) (n int64) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n += lstat(t, p).Blocks * 512
		}
		return err
	}))
	return n
}
