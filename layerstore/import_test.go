package layerstore

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
)

func compressed(t testing.TB, kind compression, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	var err error
	switch kind {
	case plain:
		return data
	case gzipped:
		w = gzip.NewWriter(&buf)
	case zstandard:
		w, err = zstd.NewWriter(&buf)
	case xzipped:
		w, err = xz.NewWriter(&buf)
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestImportCompressions(t *testing.T) {
	s := newStore(t)
	archive := makeTar(t, dir("etc/"), file("etc/hostname", "mica\n"), symlink("bin", "usr/bin"))
	var diffID string
	for kind, name := range map[compression]string{plain: "plain", gzipped: "gzip", zstandard: "zstd", xzipped: "xz"} {
		img, err := s.Import(context.Background(), bytes.NewReader(compressed(t, kind, archive)), name, ImportOptions{Message: "m"})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diffID == "" {
			diffID = img.Layers[0].DiffID.String()
		}
		if got := img.Layers[0].DiffID.String(); got != diffID {
			t.Errorf("%s: diffID %s, want %s", name, got, diffID)
		}
		if isGzip := img.Layers[0].Blob != img.Layers[0].DiffID; isGzip != (kind == gzipped) {
			t.Errorf("%s: stored as %s", name, img.Layers[0].MediaType)
		}
		if img.Size != 5 || img.Config.History[0].Comment != "m" || !slices.Equal(img.Names, []string{name + ":latest"}) {
			t.Errorf("%s: %+v", name, img)
		}
	}
	requireClean(t, s)
}

// TestImportBzip2 uses the program, since Go can only decompress.
func TestImportBzip2(t *testing.T) {
	cmd := exec.Command(needTool(t, "bzip2", "bzip2"), "-c")
	cmd.Stdin = bytes.NewReader(makeTar(t, file("a", "b")))
	data, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := newStore(t).Import(context.Background(), bytes.NewReader(data), "", ImportOptions{}); err != nil {
		t.Fatal(err)
	}
}

func TestImportDir(t *testing.T) {
	s := newStore(t)
	src := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(src, "a/b"), 0o755))
	must(os.WriteFile(filepath.Join(src, "a/b/f"), []byte("content"), 0o600))
	must(os.Link(filepath.Join(src, "a/b/f"), filepath.Join(src, "a/g")))
	must(os.Symlink("b/f", filepath.Join(src, "a/s")))
	must(unix.Mkfifo(filepath.Join(src, "pipe"), 0o640))
	must(unix.Lsetxattr(filepath.Join(src, "a"), "user.k", []byte("v"), 0))
	img, err := s.ImportDir(context.Background(), src, "tree", ImportOptions{Changes: []string{"CMD sh"}})
	must(err)
	tree := layerTree(t, s, img)
	if n := tree["a/g"]; n.Links != "a/b/f|a/g" || n.Meta.UID != uint32(os.Getuid()) {
		t.Errorf("a/g: %+v", n)
	}
	if n := tree["a/s"]; n.Target != "b/f" {
		t.Errorf("a/s: %+v", n)
	}
	if n := tree["pipe"]; n.Meta.Type() != unix.S_IFIFO {
		t.Errorf("pipe: %+v", n)
	}
	if n := tree["a"]; n.Xattrs["user.k"] != "v" {
		t.Errorf("a: %+v", n)
	}
	if !slices.Equal(img.Config.Config.Cmd, []string{"/bin/sh", "-c", "sh"}) {
		t.Errorf("config %+v", img.Config.Config)
	}
}

func TestImportErrors(t *testing.T) {
	archive := makeTar(t, file("a", strings.Repeat("x", 10_000)), file("b", "y"))
	gz := compressed(t, gzipped, archive)
	broken := bytes.Clone(gz)
	broken[len(broken)-6] ^= 0xff // in the checksum
	badHeader := bytes.Clone(archive)
	badHeader[10752+10] ^= 0x40 // in the second entry's name
	cases := []struct {
		name string
		data []byte
		ref  string
		opt  ImportOptions
		want string
	}{
		{"empty", nil, "", ImportOptions{}, "the archive is empty"},
		{"text", []byte(strings.Repeat("this is no archive. ", 100)), "", ImportOptions{}, "this is not a tar archive"},
		{"short text", []byte("hello"), "", ImportOptions{}, "truncated"},
		{"truncated", archive[:5000], "", ImportOptions{}, "truncated"},
		{"truncated gzip", gz[:len(gz)-10], "", ImportOptions{}, "truncated"},
		{"gzip and junk", append(bytes.Clone(gz), "junk"...), "", ImportOptions{}, "bytes follow the end of the compressed archive"},
		{"gzip and much junk", append(bytes.Clone(gz), bytes.Repeat([]byte("junk"), 99)...), "", ImportOptions{}, "bytes follow the end of the compressed archive"},
		{"corrupt gzip", broken, "", ImportOptions{}, "the compressed archive is corrupt"},
		{"truncated zstd", func() []byte { z := compressed(t, zstandard, archive); return z[:len(z)-8] }(), "", ImportOptions{}, "truncated"},
		{"truncated xz", func() []byte { z := compressed(t, xzipped, archive); return z[:len(z)/2] }(), "", ImportOptions{}, "truncated"},
		{"corrupt header", badHeader, "", ImportOptions{}, "corrupt after entry 1"},
		{"bad name", archive, "Upper:case", ImportOptions{}, "must be lowercase"},
		{"digest as name", archive, "a@sha256:" + strings.Repeat("0", 64), ImportOptions{}, "a digest cannot be given"},
		{"bad change", archive, "", ImportOptions{Changes: []string{"RUN x"}}, "RUN is no instruction for a change"},
	}
	s := newStore(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.Import(context.Background(), bytes.NewReader(c.data), c.ref, c.opt)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, c.want)
			}
		})
	}
	if r := requireClean(t, s); r.Blobs != 0 || r.Layers != 0 {
		t.Errorf("left behind: %+v", r)
	}
}

func TestImportCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s := newStore(t)
	_, err := s.Import(ctx, bytes.NewReader(makeTar(t, file("a", "b"))), "", ImportOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	requireClean(t, s)
}

// TestImportStoredForm looks at the disk itself: what a plain user may have there.
func TestImportStoredForm(t *testing.T) {
	s := newStore(t)
	img := importTar(t, s, "x",
		tarEntry{tar.Header{Typeflag: tar.TypeReg, Name: "su", Mode: 0o4755, Uid: 0, Gid: 50}, "x"},
		tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: "shut", Mode: 0o000}, ""},
	)
	dirs, err := s.Layers(context.Background(), img)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(filepath.Join(dirs[0], "su"))
	if err != nil || st.Mode() != 0o755 {
		t.Errorf("mode on disk %v, %v", st.Mode(), err)
	}
	if st, err := os.Stat(filepath.Join(dirs[0], "shut")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode on disk %v, %v", st.Mode(), err)
	}
	tree := readTree(t, dirs[0])
	if got, want := tree["su"].Meta, (ondisk.Meta{GID: 50, Mode: unix.S_IFREG | 0o4755}); got != want {
		t.Errorf("su is %+v, want %+v", got, want)
	}
}
