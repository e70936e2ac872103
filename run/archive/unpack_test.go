package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tarEntry is an entry of an archive with its content.
type tarEntry struct {
	tar.Header
	content string
}

func archive(t *testing.T, entries ...tarEntry) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Format, e.Size = tar.FormatPAX, int64(len(e.content))
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// unpackInto unpacks into a new directory, in which make has made something before.
func unpackInto(t *testing.T, b *bytes.Buffer, make func(dir string) error) (string, error) {
	t.Helper()
	dir := t.TempDir()
	if make != nil {
		if err := make(dir); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return dir, Unpack(b, root, dir, false, false)
}

// TestUnpackKeeps what a copy of a tree is to have beside content.
func TestUnpackKeeps(t *testing.T) {
	then := time.Date(1965, 3, 1, 0, 0, 0, 123456789, time.UTC)
	b := archive(t,
		tarEntry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "closed/", Mode: 0o555, ModTime: then}},
		tarEntry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "closed/file", Mode: 0o444, ModTime: then,
			PAXRecords: map[string]string{"SCHILY.xattr.user.note": "kept"}}, content: "text"},
		tarEntry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "closed/fifo", Mode: 0o640, ModTime: then}},
		tarEntry{Header: tar.Header{Typeflag: tar.TypeLink, Name: "closed/link", Linkname: "closed/file"}},
		tarEntry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o600, ModTime: then}, content: strings.Repeat("\x00", 1<<20)},
	)
	dir, err := unpackInto(t, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(dir, "closed"), 0o755)
	for name, mode := range map[string]os.FileMode{"closed": os.ModeDir | 0o555, "closed/file": 0o444, "closed/fifo": os.ModeNamedPipe | 0o640, "closed/link": 0o444} {
		fi, err := os.Lstat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if fi.Mode() != mode || !fi.ModTime().Equal(then) {
			t.Errorf("%s has the mode %v and the time %v, want %v and %v", name, fi.Mode(), fi.ModTime(), mode, then)
		}
	}
	note := make([]byte, 16)
	if n, err := unix.Getxattr(filepath.Join(dir, "closed/link"), "user.note", note); err != nil || string(note[:n]) != "kept" {
		t.Errorf("the attribute is %q, %v", note[:max(n, 0)], err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "zeros"), &st); err != nil || st.Size != 1<<20 || st.Blocks > 16 {
		t.Errorf("zeros: %v, %d bytes in %d blocks", err, st.Size, st.Blocks)
	}
}

// TestUnpackOver what is there already.
func TestUnpackOver(t *testing.T) {
	file := tarEntry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "name", Mode: 0o644}, content: "new"}
	inside := tarEntry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "name/in", Mode: 0o644}, content: "new"}
	device := tarEntry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "name", Devmajor: 1, Devminor: 3}}
	twice := tarEntry{Header: tar.Header{Typeflag: tar.TypeLink, Name: "other", Linkname: "name"}}
	lost := tarEntry{Header: tar.Header{Typeflag: tar.TypeLink, Name: "name", Linkname: "gone"}}
	deep := tarEntry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "a/b/c", Mode: 0o644}, content: "new"}
	fifo := tarEntry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "name", Mode: 0o600}}
	directory := tarEntry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "name/", Mode: 0o700}}
	for name, c := range map[string]struct {
		entries []tarEntry
		make    func(dir string) error
		read    string
		err     string
	}{
		"a file that may not be written": {[]tarEntry{file}, func(d string) error { return os.WriteFile(filepath.Join(d, "name"), nil, 0o444) }, "name", ""},
		"a FIFO":                         {[]tarEntry{file}, func(d string) error { return unix.Mkfifo(filepath.Join(d, "name"), 0o600) }, "", "FIFO"},
		"a FIFO by a FIFO":               {[]tarEntry{fifo, deep}, func(d string) error { return unix.Mkfifo(filepath.Join(d, "name"), 0o600) }, "a/b/c", ""},
		"a symlink out":                  {[]tarEntry{file}, func(d string) error { return os.Symlink("/etc/passwd", filepath.Join(d, "name")) }, "name", ""},
		"a directory by a file":          {[]tarEntry{file}, func(d string) error { return os.Mkdir(filepath.Join(d, "name"), 0o700) }, "", "a directory of that name"},
		"a file by a directory":          {[]tarEntry{directory, inside}, func(d string) error { return os.WriteFile(filepath.Join(d, "name"), nil, 0o600) }, "", "no directory"},
		"a file by a device":             {[]tarEntry{device}, func(d string) error { return os.WriteFile(filepath.Join(d, "name"), []byte("new"), 0o600) }, "name", ""},
		"a file by a lost link":          {[]tarEntry{lost}, func(d string) error { return os.WriteFile(filepath.Join(d, "name"), []byte("new"), 0o600) }, "", "no such file"},
		"nothing, without its parents":   {[]tarEntry{deep}, func(string) error { return nil }, "a/b/c", ""},
		"a device that has two names":    {[]tarEntry{device, twice, file}, func(string) error { return nil }, "name", ""},
		"a closed directory":             {[]tarEntry{directory, inside}, func(d string) error { return os.Mkdir(filepath.Join(d, "name"), 0o500) }, "name/in", ""},
		"a symlink out by a directory":   {[]tarEntry{directory, inside}, func(d string) error { return os.Symlink("/tmp", filepath.Join(d, "name")) }, "", "no directory"},
		"a file behind a symlink out":    {[]tarEntry{inside}, func(d string) error { return os.Symlink("/tmp", filepath.Join(d, "name")) }, "", "escapes"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := unpackInto(t, archive(t, c.entries...), c.make)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%v, want an error with %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, c.read)); string(got) != "new" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// TestUnpackFailsHalfWay: directories have their modes afterwards, those that were there their old ones if nothing else was
// asked for.
func TestUnpackFailsHalfWay(t *testing.T) {
	b := archive(t, tarEntry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "there/", Mode: 0o1777}},
		tarEntry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "new/", Mode: 0o755}}, tarEntry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "../out", Mode: 0o644}})
	dir, err := unpackInto(t, b, func(d string) error {
		return errors.Join(os.Mkdir(filepath.Join(d, "there"), 0o700), os.Chmod(filepath.Join(d, "there"), 0o500|os.ModeSticky))
	})
	if err == nil {
		t.Fatal("an entry outside was taken")
	}
	for name, want := range map[string]os.FileMode{"there": os.ModeDir | os.ModeSticky | 0o777, "new": os.ModeDir | 0o755} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode() != want {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
}

// TestFIFOInTheWay: a FIFO that a container has put in a file's place meanwhile is neither waited for nor written to.
func TestFIFOInTheWay(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "f")
	root, err := os.OpenRoot(dir)
	if err == nil {
		defer root.Close()
		err = unix.Mkfifo(fifo, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"nobody reads", "somebody reads"} {
		u := &unpacker{root: root}
		if err := u.content("f", strings.NewReader("content"), 7); !errors.Is(err, errIrregular) {
			t.Errorf("%s: write: %v", state, err)
		}
		if f, err := openRegular(root, "f", os.O_RDONLY); !errors.Is(err, errIrregular) {
			f.Close()
			t.Errorf("%s: read: %v", state, err)
		}
		reader, err := os.OpenFile(fifo, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer reader.Close()
	}
}
