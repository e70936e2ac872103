package layerstore

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/whiteout"
)

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tarEntry is one entry of an archive that a test makes.
type tarEntry struct {
	tar.Header
	content string
}

func file(name, content string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content}
}

func dir(name string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, ""}
}

func symlink(name, target string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""}
}

func hardlink(name, target string) tarEntry {
	return tarEntry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, ""}
}

func makeTar(t testing.TB, entries ...tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.Header
		h.Size, h.Format = int64(len(e.content)), tar.FormatPAX
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatalf("%s: %v", h.Name, err)
		}
		if _, err := io.WriteString(tw, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func importTar(t testing.TB, s *Store, ref string, entries ...tarEntry) *Image {
	t.Helper()
	img, err := s.Import(context.Background(), bytes.NewReader(makeTar(t, entries...)), ref, ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// node is one object of an unpacked layer, as the image sees it.
type node struct {
	Meta     ondisk.Meta
	Target   string
	Xattrs   map[string]string
	Content  string // digest and size
	Mtime    time.Time
	Links    string // the names that are one file, sorted, if several
	Opaque   bool
	Whiteout bool
}

// readTree reads a directory in stored form.
func readTree(t testing.TB, root string) map[string]node {
	t.Helper()
	tree := make(map[string]node)
	links := make(map[uint64][]string)
	fd, err := sys.OpenDir(unix.AT_FDCWD, root)
	if err != nil {
		t.Fatal(err)
	}
	defer sys.Close(fd)
	readObject(t, fd, "", ".", tree, links)
	for _, names := range links {
		if len(names) > 1 {
			slices.Sort(names)
			for _, name := range names {
				n := tree[name]
				n.Links = strings.Join(names, "|")
				tree[name] = n
			}
		}
	}
	return tree
}

func readObject(t testing.TB, dirfd int, name, path string, tree map[string]node, links map[uint64][]string) {
	t.Helper()
	var st unix.Statx_t
	if err := sys.Stat(dirfd, name, &st); err != nil {
		t.Fatal(path, err)
	}
	if whiteout.IsDevice(&st) {
		tree[path] = node{Whiteout: true}
		return
	}
	o, st, err := ondisk.Read(dirfd, name)
	if err != nil {
		t.Fatal(path, err)
	}
	n := node{Meta: o.Meta, Target: o.Target, Mtime: time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec))}
	if len(o.Xattrs) > 0 {
		n.Xattrs = make(map[string]string)
		for k, v := range o.Xattrs {
			n.Xattrs[k] = string(v)
		}
	}
	switch o.Type() {
	case unix.S_IFDIR:
		fd := dirfd
		if name != "" {
			if fd, err = sys.OpenDir(dirfd, name); err != nil {
				t.Fatal(path, err)
			}
			defer sys.Close(fd)
		}
		marks, err := whiteout.ReadDir(fd)
		if err != nil {
			t.Fatal(path, err)
		}
		n.Opaque = marks.Opaque
		tree[path] = n
		var names []string
		err = sys.List(fd, func(name []byte, _ uint8, _ uint64) error {
			names = append(names, string(name))
			return nil
		})
		if err != nil {
			t.Fatal(path, err)
		}
		for _, child := range names {
			readObject(t, fd, child, strings.TrimPrefix(path+"/"+child, "./"), tree, links)
		}
		return
	case unix.S_IFREG:
		f, err := sys.Open(dirfd, name, unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(path, err)
		}
		n.Content = sum(t, os.NewFile(uintptr(f), path))
	}
	if st.Nlink > 1 {
		links[st.Ino] = append(links[st.Ino], path)
	}
	tree[path] = n
}

func sum(t testing.TB, r io.ReadCloser) string {
	t.Helper()
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return sumBytes(data)
}

func sumBytes(data []byte) string {
	h := sha256.Sum256(data)
	return fmt.Sprintf("%x %d", h[:8], len(data))
}

// diffTrees reports what differs between two trees.
func diffTrees(t testing.TB, got, want map[string]node) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[path]
		if !ok {
			t.Errorf("%q is missing", path)
			continue
		}
		w := want[path]
		if !g.Mtime.Equal(w.Mtime) {
			t.Errorf("%q: time %v, want %v", path, g.Mtime, w.Mtime)
		}
		g.Mtime, w.Mtime = time.Time{}, time.Time{}
		if gs, ws := fmt.Sprintf("%+v", g), fmt.Sprintf("%+v", w); gs != ws {
			t.Errorf("%q:\n got %s\nwant %s", path, gs, ws)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			t.Errorf("%q should not exist", path)
		}
	}
}

// layerTree unpacks an image and reads its topmost layer.
func layerTree(t testing.TB, s *Store, img *Image) map[string]node {
	t.Helper()
	dirs, err := s.Layers(context.Background(), img)
	if err != nil {
		t.Fatal(err)
	}
	return readTree(t, dirs[0])
}

// fixedChanges is a stream of the changes given.
func fixedChanges(list ...*cow.Change) Changes {
	return func(_ context.Context, fn func(*cow.Change) error) error {
		for _, c := range list {
			if err := fn(c); err != nil {
				return err
			}
		}
		return nil
	}
}

func addedFile(path, content string) *cow.Change {
	return &cow.Change{
		Path: path, Meta: ondisk.Meta{Mode: unix.S_IFREG | 0o644}, Size: int64(len(content)),
		Mtime: time.Unix(1_700_000_000, 123_456_789),
		Open:  func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil },
	}
}

func addedDir(path string) *cow.Change {
	return &cow.Change{
		Path: path, Meta: ondisk.Meta{Mode: unix.S_IFDIR | 0o755}, Mtime: time.Unix(1_700_000_000, 0),
	}
}

// requireClean fails the test unless a check finds nothing at all.
func requireClean(t testing.TB, s *Store) *Report {
	t.Helper()
	r, err := s.Check(context.Background(), false)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) > 0 {
		t.Fatalf("the store is not clean: %+v", r.Problems)
	}
	if left, err := names(s.path("tmp")); err != nil || len(left) > 0 {
		t.Fatalf("left in tmp: %q, %v", left, err)
	}
	return r
}

// needTool fails the test when a program is missing that it compares with.
func needTool(t testing.TB, tool, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		t.Fatalf("%s is missing; install the package %s", tool, pkg)
	}
	return path
}

func mkdirs(t testing.TB, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
}
