package layerstore

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// extractInto unpacks an archive beside a file that nothing may touch.
func extractInto(t testing.TB, lowers []string, data []byte) (map[string]node, layerInfo, error) {
	t.Helper()
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	if err := os.WriteFile(outside, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(base, "layer")
	res, err := extract(context.Background(), bytes.NewReader(data), root, lowers)
	got, rerr := os.ReadFile(outside)
	if rerr != nil || string(got) != "untouched" {
		t.Fatalf("the file outside is %q, %v", got, rerr)
	}
	entries, rerr := os.ReadDir(base)
	if rerr != nil || len(entries) != 2 {
		t.Fatalf("beside the layer: %v, %v", entries, rerr)
	}
	if err != nil {
		return nil, res, err
	}
	return readTree(t, root), res, nil
}

// TestExtractHostile is the table of archives that are refused.
func TestExtractHostile(t *testing.T) {
	long := strings.Repeat("n", 256)
	deep := strings.Repeat("d/", maxDepth) + "f"
	special := func(h tar.Header) tarEntry { return tarEntry{h, ""} }
	cases := []struct {
		name    string
		entries []tarEntry
		want    string
	}{
		{"parent", []tarEntry{file("../outside", "x")}, "leads out of the layer"},
		{"parent inside", []tarEntry{file("a/../../outside", "x")}, "leads out of the layer"},
		{"absolute parent", []tarEntry{file("/../outside", "x")}, "leads out of the layer"},
		{"hard link to parent", []tarEntry{hardlink("l", "../outside")}, "leads out of the layer"},
		{"hard link through symlink", []tarEntry{symlink("up", ".."), hardlink("l", "up/outside")}, "does not exist"},
		{"hard link to absolute", []tarEntry{hardlink("l", "/etc/passwd")}, "does not exist"},
		{"hard link to directory", []tarEntry{dir("d"), hardlink("l", "d")}, "is a directory"},
		{"hard link to root", []tarEntry{hardlink("l", "./")}, "root directory"},
		{"hard link to nothing", []tarEntry{hardlink("l", "nothing")}, "does not exist"},
		{"hard link to itself", []tarEntry{hardlink("l", "l")}, "does not exist"},
		{"hard link to whiteout", []tarEntry{file(".wh.gone", ""), hardlink("l", "gone")}, "deletes"},
		{"root as symlink", []tarEntry{symlink(".", "/etc")}, "root is not a directory"},
		{"file as directory", []tarEntry{file("f", ""), file("f/g", "")}, "is not a directory"},
		{"symlink loop", []tarEntry{symlink("a", "b"), symlink("b", "a"), file("a/f", "")}, "too many symlinks"},
		{"symlink to itself", []tarEntry{symlink("a", "a"), file("a/f", "")}, "too many symlinks"},
		{"name too long", []tarEntry{file(long, "")}, "longer than 255"},
		{"path too long", []tarEntry{file(strings.Repeat("dir/", maxPathBytes/4)+"f", "")}, "longer than"},
		{"too deep", []tarEntry{file(deep, "")}, "nested deeper"},
		{"deep through symlinks", []tarEntry{symlink("s", strings.Repeat("s/", 2000)), file("s/f", "")}, "too"},
		{"empty symlink", []tarEntry{symlink("s", "")}, "target has 0 bytes"},
		{"long symlink", []tarEntry{symlink("s", strings.Repeat("x", 5000))}, "target has 5000 bytes"},
		{"whiteout of nothing", []tarEntry{file(".wh.", "")}, "names nothing"},
		{"whiteout of self", []tarEntry{file("a/.wh..", "")}, `names "."`},
		{"whiteout of parent", []tarEntry{file("a/.wh...", "")}, `names ".."`},
		{"below whiteout name", []tarEntry{file(".wh.a/f", "")}, "reserved for whiteouts"},
		{"negative owner", []tarEntry{special(tar.Header{Typeflag: tar.TypeReg, Name: "f", Uid: -1})}, "out of range"},
		{"huge owner", []tarEntry{special(tar.Header{Typeflag: tar.TypeReg, Name: "f", Gid: 1 << 33})}, "out of range"},
		{"huge device", []tarEntry{special(tar.Header{Typeflag: tar.TypeChar, Name: "f", Devmajor: -1})}, "out of range"},
		{"unknown type", []tarEntry{special(tar.Header{Typeflag: 'V', Name: "volume"})}, "unknown type"},
		{"attribute too large", []tarEntry{special(tar.Header{
			Typeflag: tar.TypeReg, Name: "f", PAXRecords: map[string]string{paxXattr + "user.big": strings.Repeat("x", 100_000)},
		})}, "attribute user.big"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := extractInto(t, nil, hostileTar(t, c.entries))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

// hostileTar is makeTar for headers that Go's writer takes in GNU's format only.
func hostileTar(t testing.TB, entries []tarEntry) []byte {
	t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.Header
		h.Size = int64(len(e.content))
		h.Format = tar.FormatPAX
		if h.Uid < 0 || h.Devmajor < 0 || h.Typeflag == 'V' {
			h.Format = tar.FormatGNU
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestExtractHeaderBomb refuses an extended header of any size but a small one.
func TestExtractHeaderBomb(t *testing.T) {
	for _, kind := range []byte{tar.TypeXHeader, tar.TypeGNULongName} {
		data := makeTar(t, file("f", strings.Repeat("x", 2<<20)), file("g", ""))
		data[156] = kind
		fixChecksum(data[:512])
		if _, _, err := extractInto(t, nil, data); err == nil || !strings.Contains(err.Error(), "longer than 1 MiB") {
			t.Errorf("type %c: error %v", kind, err)
		}
	}
}

// TestExtractInherit: a directory without an entry is the one of the layers below.
func TestExtractInherit(t *testing.T) {
	s := newStore(t)
	lower := makeTar(t,
		tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: "./", Mode: 0o711, Uid: 3, ModTime: time.Unix(5, 0)}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o1777, Uid: 9, ModTime: time.Unix(7, 0)}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeDir, Name: "e/", Mode: 0o700, Uid: 9, ModTime: time.Unix(7, 0)}, ""},
	)
	tree := layerTree(t, s, loadLayers(t, s, "x", lower, makeTar(t, file("d/f", ""), file(".wh.e", ""), file("e/f", ""))))
	if d := tree["d"]; d.Meta.UID != 9 || d.Meta.Perm() != 0o1777 || d.Mtime.Unix() != 7 {
		t.Errorf("d is %+v", d)
	}
	if e := tree["e"]; e.Meta.UID != 0 || e.Meta.Perm() != 0o755 || !e.Opaque || e.Mtime.Unix() != 0 {
		t.Errorf("e is %+v", e)
	}
	if root := tree["."]; root.Meta.UID != 3 || root.Meta.Perm() != 0o711 || root.Mtime.Unix() != 5 {
		t.Errorf("the root is %+v", root)
	}
}

// TestExtractSize refuses a sparse file that claims more than a layer may hold,
// before it is read.
func TestExtractSize(t *testing.T) {
	data := makeTar(t, file("f", ""))
	copy(data[124:136], "77777777777\x00") // 8 GiB, under the bound: then it is truncated
	fixChecksum(data[:512])
	if _, _, err := extractInto(t, nil, data); err == nil || !strings.Contains(err.Error(), "truncated") {
		t.Errorf("error %v", err)
	}
	copy(data[124:136], "\x80\x00\x00\x00\x00\x00\x7f\x00\x00\x00\x00\x00")
	fixChecksum(data[:512])
	if _, _, err := extractInto(t, nil, data); err == nil || !strings.Contains(err.Error(), "larger than 1024 GiB") {
		t.Errorf("error %v", err)
	}
}

// fixChecksum sets the checksum of a tar header.
func fixChecksum(header []byte) {
	copy(header[148:156], "        ")
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	for i := 5; i >= 0; i-- {
		header[148+i] = byte('0' + sum&7)
		sum >>= 3
	}
	header[154], header[155] = 0, ' '
}

// fixChecksums makes the headers of a mutated archive pass, as far as they
// can be found.
func fixChecksums(data []byte) {
	for len(data) >= 512 {
		fixChecksum(data[:512])
		size, err := strconv.ParseUint(strings.Trim(string(data[124:136]), " \x00"), 8, 32)
		skip := 512 + (size+511)/512*512
		if err != nil || skip > uint64(len(data)) {
			return
		}
		data = data[skip:]
		if len(data) >= 512 && bytes.Equal(data[:512], make([]byte, 512)) {
			return
		}
	}
}

// expectation is what one path must be after unpacking.
type expectation struct {
	typ     uint32 // S_IFMT
	size    string // of a file: its content's length as text
	target  string
	opaque  bool
	white   bool
	missing bool
}

// TestExtractTolerated is the table of archives that are odd but have one meaning.
func TestExtractTolerated(t *testing.T) {
	reg := func(size string) expectation { return expectation{typ: unix.S_IFREG, size: size} }
	directory := expectation{typ: unix.S_IFDIR}
	gone := expectation{missing: true}
	cases := []struct {
		name    string
		entries []tarEntry
		want    map[string]expectation
	}{
		{"no parents", []tarEntry{file("a/b/c", "xy")}, map[string]expectation{"a": directory, "a/b": directory, "a/b/c": reg("2")}},
		{"absolute", []tarEntry{file("/etc/f", "x")}, map[string]expectation{"etc/f": reg("1")}},
		{"dots", []tarEntry{file("./a/./../b", "x")}, map[string]expectation{"b": reg("1"), "a": gone}},
		{"last wins", []tarEntry{file("f", "one"), file("f", "four")}, map[string]expectation{"f": reg("4")}},
		{"file over directory", []tarEntry{file("d/x/y", "1"), file("d", "22")}, map[string]expectation{"d": reg("2"), "d/x": gone}},
		{"directory over file", []tarEntry{file("d", "1"), dir("d"), file("d/x", "1")}, map[string]expectation{"d": {typ: unix.S_IFDIR, opaque: true}, "d/x": reg("1")}},
		{"directory twice", []tarEntry{dir("d"), file("d/x", "1"), dir("d")}, map[string]expectation{"d": directory, "d/x": reg("1")}},
		{"symlink over file", []tarEntry{file("f", "1"), symlink("f", "/etc/passwd")}, map[string]expectation{"f": {typ: unix.S_IFLNK, target: "/etc/passwd"}}},
		{"file over symlink", []tarEntry{symlink("f", "../outside"), file("f", "1")}, map[string]expectation{"f": reg("1")}},
		{"through symlink", []tarEntry{symlink("lib", "usr/lib"), file("lib/f", "1")}, map[string]expectation{"lib": {typ: unix.S_IFLNK, target: "usr/lib"}, "usr/lib/f": reg("1")}},
		{"through absolute symlink", []tarEntry{symlink("lib", "/usr/lib"), file("lib/f", "1")}, map[string]expectation{"usr/lib/f": reg("1")}},
		{"through symlink upwards", []tarEntry{symlink("a/up", "../../../b"), file("a/up/f", "1")}, map[string]expectation{"b/f": reg("1")}},
		{"escape through symlink stays", []tarEntry{symlink("x", "../.."), file("x/outside", "1")}, map[string]expectation{"outside": reg("1")}},
		{"hard link", []tarEntry{file("a", "123"), hardlink("d/b", "./a")}, map[string]expectation{"d/b": reg("3")}},
		{"hard link to itself", []tarEntry{file("a", "123"), hardlink("a", "a")}, map[string]expectation{"a": reg("3")}},
		{"hard link over file", []tarEntry{file("a", "123"), file("b", "1"), hardlink("b", "a")}, map[string]expectation{"b": reg("3")}},
		{"hard link to symlink", []tarEntry{symlink("s", "../outside"), hardlink("b", "s")}, map[string]expectation{"b": {typ: unix.S_IFLNK, target: "../outside"}}},
		{"whiteout", []tarEntry{file("d/.wh.f", "")}, map[string]expectation{"d": directory, "d/f": {white: true}}},
		{"whiteout as hard link", []tarEntry{file(".wh.a", ""), hardlink(".wh.b", ".wh.a")}, map[string]expectation{"a": {white: true}, "b": {white: true}}},
		{"whiteout as hard link to aufs", []tarEntry{hardlink(".wh.b", ".wh..wh.aufs")}, map[string]expectation{"b": {white: true}}},
		{"whiteout twice", []tarEntry{file(".wh.a", ""), file(".wh.a", "")}, map[string]expectation{"a": {white: true}}},
		{"whiteout then file", []tarEntry{file(".wh.a", ""), file("a", "1")}, map[string]expectation{"a": reg("1")}},
		{"file then whiteout", []tarEntry{file("a", "1"), file(".wh.a", "")}, map[string]expectation{"a": reg("1")}},
		{"whiteout then directory", []tarEntry{file(".wh.a", ""), file("a/f", "1")}, map[string]expectation{"a": {typ: unix.S_IFDIR, opaque: true}, "a/f": reg("1")}},
		{"directory then whiteout", []tarEntry{file("a/f", "1"), file(".wh.a", "")}, map[string]expectation{"a": {typ: unix.S_IFDIR, opaque: true}, "a/f": reg("1")}},
		{"opaque", []tarEntry{file("a/f", "1"), file("a/.wh..wh..opq", "")}, map[string]expectation{"a": {typ: unix.S_IFDIR, opaque: true}, "a/f": reg("1")}},
		{"opaque without directory", []tarEntry{file("a/.wh..wh..opq", "")}, map[string]expectation{"a": {typ: unix.S_IFDIR, opaque: true}}},
		{"opaque root", []tarEntry{file(".wh..wh..opq", "")}, map[string]expectation{".": {typ: unix.S_IFDIR, opaque: true}}},
		{"aufs", []tarEntry{dir(".wh..wh.plnk"), file(".wh..wh.aufs", "")}, map[string]expectation{".wh..wh.plnk": gone, ".wh..wh.aufs": gone}},
		{"devices", []tarEntry{{tar.Header{Typeflag: tar.TypeChar, Name: "c"}, ""}}, map[string]expectation{"c": {typ: unix.S_IFCHR}}},
		{"global header", []tarEntry{{tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}}, ""}, file("f", "1")}, map[string]expectation{"f": reg("1")}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tree, _, err := extractInto(t, nil, makeTar(t, c.entries...))
			if err != nil {
				t.Fatal(err)
			}
			for path, want := range c.want {
				n, ok := tree[path]
				_, size, _ := strings.Cut(n.Content, " ")
				got := expectation{n.Meta.Type(), size, n.Target, n.Opaque, n.Whiteout, !ok}
				if got != want {
					t.Errorf("%s is %+v, want %+v", path, got, want)
				}
			}
		})
	}
}

// TestExtractPrivateMarks: an image cannot forge what mica keeps on disk.
func TestExtractPrivateMarks(t *testing.T) {
	forged := map[string]string{
		paxXattr + "user.overlay.opaque":           "y",
		paxXattr + "user.containers.override_stat": "1:2:0777:file",
		paxXattr + "user.mica.origin":              "x",
	}
	tree, _, err := extractInto(t, nil, makeTar(t, tarEntry{tar.Header{
		Typeflag: tar.TypeDir, Name: "d", Mode: 0o755, Uid: 7, PAXRecords: forged,
	}, ""}))
	if err != nil {
		t.Fatal(err)
	}
	d := tree["d"]
	if d.Opaque || d.Meta.UID != 7 || d.Xattrs["user.overlay.opaque"] != "y" || len(d.Xattrs) != 3 {
		t.Errorf("d is %+v", d)
	}
}

// TestExtractHardLinkToLower copies a file of a layer below, and keeps the
// result apart from the same layer over other parents.
func TestExtractHardLinkToLower(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	lower := makeTar(t, file("a/f", "below"), file("gone", "x"))
	upper := makeTar(t, hardlink("b", "a/f"))
	img := loadLayers(t, s, "x", lower, upper)
	dirs, err := s.Layers(ctx, img)
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(dirs[0]) != img.Layers[1].ChainID.Encoded() {
		t.Errorf("unpacked at %s, not by its chain", dirs[0])
	}
	if tree := readTree(t, dirs[0]); !strings.HasSuffix(tree["b"].Content, " 5") {
		t.Errorf("b is %+v", tree["b"])
	}
	other := loadLayers(t, s, "y", makeTar(t, file("a/f", "something else")), upper)
	if tree := layerTree(t, s, other); !strings.HasSuffix(tree["b"].Content, " 14") {
		t.Errorf("b over the other parent is %+v", tree["b"])
	}
	requireClean(t, s)
	hidden := [][]byte{lower, makeTar(t, file("a/.wh.f", "")), upper}
	if _, err := tryLoadLayers(t, s, "z", hidden...); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a link to a deleted file: %v", err)
	}
	if _, err := tryLoadLayers(t, s, "z", lower, makeTar(t, hardlink("b", "a"))); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("a link to a directory below: %v", err)
	}
	requireClean(t, s)
}

// TestExtractSparse: zeros take no space.
func TestExtractSparse(t *testing.T) {
	content := make([]byte, 4<<20+123)
	copy(content[1<<20:], "data")
	base := filepath.Join(t.TempDir(), "layer")
	_, err := extract(context.Background(), bytes.NewReader(makeTar(t, file("f", string(content)))), base, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(base, "f"))
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("content differs: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(base, "f"), &st); err != nil || st.Blocks*512 > 1<<20 {
		t.Errorf("takes %d bytes on disk, %v", st.Blocks*512, err)
	}
}

// FuzzExtract: whatever the archive, nothing outside changes and what is made can be
// read back, and removed.
func FuzzExtract(f *testing.F) {
	for _, entries := range [][]tarEntry{
		{file("a/b", "x"), symlink("l", "../.."), file("l/outside", "y")},
		{file(".wh.a", ""), file("a/f", "1"), hardlink("h", "a/f")},
		{dir("d"), file("d", "x"), dir("d"), file("d/.wh..wh..opq", "")},
		{hardlink("outside", "../outside"), symlink("outside", "../outside")},
	} {
		f.Add(makeTar(f, entries...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		fixChecksums(data)
		tree, _, err := extractInto(t, nil, data)
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("error of several lines: %v", err)
		}
		if err == nil && tree["."].Meta.Type() != unix.S_IFDIR {
			t.Errorf("root is %+v", tree["."])
		}
	})
}

// TestExtractLongPath: directories whose path is longer than one system call
// takes get their times, too.
func TestExtractLongPath(t *testing.T) {
	var entries []tarEntry
	p := ""
	for len(p) < 2*unix.PathMax {
		p = joinPath(p, strings.Repeat("d", 29))
		entries = append(entries, dir(p))
	}
	entries = append(entries, file(joinPath(p, "f"), "text"))
	tree, _, err := extractInto(t, nil, makeTar(t, entries...))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree) < len(entries) {
		t.Errorf("%d objects of %d", len(tree), len(entries))
	}
}
