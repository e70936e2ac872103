package layerstore

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"mica/cow"
)

func commitFile(t testing.TB, s *Store, parent *Image, path, ref string, opt CommitOptions) *Image {
	t.Helper()
	opt.Ref = ref
	img, err := s.Commit(context.Background(), parent, fixedChanges(addedFile(path, strings.Repeat("x", 100))), opt)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestResolve(t *testing.T) {
	s := newStore(t)
	a := importTar(t, s, "debian", file("a", "a"))
	b := importTar(t, s, "reg.example:5000/team/app:v1", file("b", "b"))
	if err := s.Tag("debian", "debian:stable"); err != nil {
		t.Fatal(err)
	}
	hex := strings.TrimPrefix(a.ID, "sha256:")
	for ref, want := range map[string]*Image{
		"debian": a, "debian:latest": a, "debian:stable": a, "docker.io/library/debian": a, "library/debian": a,
		"reg.example:5000/team/app:v1": b, a.ID: a, hex: a, hex[:12]: a, "sha256:" + hex[:8]: a,
		"debian@" + a.Manifest.String(): a, "reg.example:5000/team/app@" + b.Manifest.String(): b,
	} {
		img, err := s.Resolve(ref)
		if err != nil || img.ID != want.ID {
			t.Errorf("%s: %v, %v", ref, img, err)
		}
	}
	for ref, want := range map[string]error{
		"ubuntu": ErrNotFound, "debian:none": ErrNotFound, "debian@" + b.Manifest.String(): ErrNotFound,
		strings.Repeat("0", 64): ErrNotFound, "sha256:" + strings.Repeat("0", 64): ErrNotFound,
	} {
		if _, err := s.Resolve(ref); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", ref, err, want)
		}
	}
	for _, ref := range []string{"", "UPPER", "a:b:c", "-x", "../x"} {
		if _, err := s.Resolve(ref); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", ref, err)
		}
	}
	img, err := s.Resolve("debian")
	if err != nil || !slices.Equal(img.Names, []string{"debian:latest", "debian:stable"}) {
		t.Errorf("names %q, %v", img.Names, err)
	}
}

// TestResolveAmbiguous makes images until two IDs begin alike.
func TestResolveAmbiguous(t *testing.T) {
	s := newStore(t)
	first := make(map[byte]bool)
	base := importTar(t, s, "", file("a", "a"))
	for img := base; ; {
		digit := img.ID[len("sha256:")]
		if first[digit] {
			if _, err := s.Resolve("sha256:" + string(digit)); !errors.Is(err, ErrAmbiguous) {
				t.Errorf("error %v", err)
			}
			return
		}
		first[digit] = true
		img = commitFile(t, s, base, "f", "", CommitOptions{})
	}
}

func TestCommit(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	base := importTar(t, s, "base", dir("./"), file("a", "12345"))
	img := commitFile(t, s, base, "f", "app", CommitOptions{
		Author: "A", Message: "Add f", CreatedBy: "bash", Changes: []string{"CMD app", "LABEL x=y"},
	})
	if len(img.Layers) != 2 || img.Layers[0].DiffID != base.Layers[0].DiffID || img.Size != 105 {
		t.Errorf("committed %+v", img)
	}
	if h := img.Config.History[1]; h.Author != "A" || h.Comment != "Add f" || h.CreatedBy != "bash" || h.EmptyLayer {
		t.Errorf("history %+v", h)
	}
	// Nothing changed: Docker adds no layer then.
	empty, err := s.Commit(ctx, img, fixedChanges(), CommitOptions{Ref: "app", Changes: []string{"USER u"}})
	if err != nil || len(empty.Layers) != 2 || !empty.Config.History[2].EmptyLayer || empty.Config.Config.User != "u" {
		t.Errorf("committed %+v, %v", empty, err)
	}
	if empty.Config.Config.Labels["x"] != "y" || img.Config.Config.User != "" {
		t.Errorf("configurations %+v and %+v", empty.Config.Config, img.Config.Config)
	}
	// The name has moved on; the image that had it stays.
	if old, err := s.Resolve(img.ID); err != nil || len(old.Names) != 0 {
		t.Errorf("%+v, %v", old, err)
	}
	if _, err := s.Commit(ctx, nil, fixedChanges(), CommitOptions{}); err != nil {
		t.Error(err)
	}
	requireClean(t, s)
}

func TestCommitErrors(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	base := importTar(t, s, "base", file("a", "a"))
	shrinking := addedFile("f", "abc")
	shrinking.Size = 10
	unreadable := addedFile("f", "abc")
	unreadable.Open = func() (io.ReadCloser, error) { return nil, os.ErrPermission }
	for want, changes := range map[string]Changes{
		"cannot be put into a layer": fixedChanges(addedFile("d/.wh.f", "")),
		"nested deeper":              fixedChanges(addedFile(strings.Repeat("d/", maxDepth)+"f", "")),
		"the file shrank":            fixedChanges(shrinking),
		"permission denied":          fixedChanges(unreadable),
		"from the stream":            func(context.Context, func(*cow.Change) error) error { return errors.New("from the stream") },
	} {
		_, err := s.Commit(ctx, base, changes, CommitOptions{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if _, err := s.Remove("base", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, base, fixedChanges(addedFile("f", "")), CommitOptions{}); err == nil {
		t.Error("committed over an image that is gone")
	}
	if r := requireClean(t, s); r.Blobs != 0 {
		t.Errorf("left behind: %+v", r)
	}
}

func TestHistory(t *testing.T) {
	s := newStore(t)
	base := importTar(t, s, "base", file("a", "12345"))
	one := commitFile(t, s, base, "f", "one", CommitOptions{Message: "first", CreatedBy: "sh"})
	two := commitFile(t, s, one, "g", "two", CommitOptions{Message: "second"})
	check := func(want ...string) {
		t.Helper()
		rows, err := s.History(two)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range rows {
			got = append(got, r.ID+" "+r.Comment)
		}
		if !slices.Equal(got, want) {
			t.Errorf("history %q, want %q", got, want)
		}
		if rows[0].Size != 100 || rows[2].Size != 5 || rows[1].CreatedBy != "sh" {
			t.Errorf("rows %+v", rows)
		}
	}
	check(two.ID+" second", one.ID+" first", base.ID+" Imported from -")
	if _, err := s.Remove("one", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	check(two.ID+" second", missingID+" first", missingID+" Imported from -")
}

func TestRemove(t *testing.T) {
	s := newStore(t)
	base := importTar(t, s, "base", file("a", "a"))
	app := commitFile(t, s, base, "f", "app:1", CommitOptions{})
	for _, name := range []string{"app:2", "other"} {
		if err := s.Tag("app:1", name); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Layers(context.Background(), app); err != nil {
		t.Fatal(err)
	}
	remove := func(ref string, opt RemoveOptions, want ...string) {
		t.Helper()
		removed, err := s.Remove(ref, opt)
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		var got []string
		for _, r := range removed {
			got = append(got, r.Untagged+r.Deleted)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: removed %q, want %q", ref, got, want)
		}
		requireClean(t, s)
	}
	used := RemoveOptions{InUse: func(id string) ([]string, error) {
		if id == app.ID {
			return []string{"0123456789abcdef"}, nil
		}
		return nil, nil
	}}
	remove("app:2", used, "app:2")
	if _, err := s.Remove(app.ID, used); err == nil || !strings.Contains(err.Error(), "several repositories") {
		t.Errorf("error %v", err)
	}
	remove("other", used, "other:latest")
	if _, err := s.Remove("app:1", used); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "container 0123456789ab:") {
		t.Errorf("error %v", err)
	}
	forced := used
	forced.Force = true
	remove("app:1", forced, "app:1")
	if _, err := s.Resolve(app.ID); err != nil {
		t.Errorf("the image that a container uses is gone: %v", err)
	}
	remove(app.ID, RemoveOptions{}, app.ID, app.Layers[1].ChainID.String())
	if got := layerTree(t, s, base); len(got) != 2 {
		t.Errorf("the shared layer is %+v", got)
	}
	remove(base.ID[7:20], RemoveOptions{}, "base:latest", base.ID, base.Layers[0].ChainID.String())
	if r := requireClean(t, s); r.Blobs != 0 || r.Layers != 0 || r.Images != 0 {
		t.Errorf("left: %+v", r)
	}
	if _, err := s.Remove("base", RemoveOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
}

// TestCheck breaks a store in every way and has it repaired.
func TestCheck(t *testing.T) {
	write := func(t *testing.T, path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("broken"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	zeros := strings.Repeat("0", 64)
	cases := []struct {
		name   string
		breakS func(t *testing.T, s *Store, img *Image)
		want   string
		images int // after the repair
	}{
		{"corrupt layer blob", func(t *testing.T, s *Store, img *Image) { write(t, s.blobPath(img.Layers[0].Blob)) }, "layer blob", 1},
		{"same size", func(t *testing.T, s *Store, img *Image) {
			path := s.blobPath(img.Layers[0].Blob)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[0] ^= 1
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "the content has digest", 1},
		{"missing layer blob", func(t *testing.T, s *Store, img *Image) { _ = os.Remove(s.blobPath(img.Layers[0].Blob)) }, "is missing", 1},
		{"corrupt manifest", func(t *testing.T, s *Store, img *Image) { write(t, s.blobPath(img.Manifest)) }, "is corrupt", 1},
		{"missing config", func(t *testing.T, s *Store, img *Image) {
			_ = os.Remove(filepath.Join(s.Root(), "blobs/sha256", strings.TrimPrefix(img.ID, "sha256:")))
		}, "is missing", 1},
		{"stray blob", func(t *testing.T, s *Store, _ *Image) { write(t, filepath.Join(s.Root(), "blobs/sha256/x")) }, "the name is no digest", 2},
		{"stray layer", func(t *testing.T, s *Store, _ *Image) { _ = os.Mkdir(filepath.Join(s.Root(), "layers", zeros), 0o700) }, "no image refers to it", 2},
		{"corrupt info", func(t *testing.T, s *Store, img *Image) { write(t, s.layerInfoPath(img.Layers[0].DiffID.Encoded())) }, "does not parse", 2},
		{"stray catalog", func(t *testing.T, s *Store, _ *Image) { write(t, CatalogOf(s.path("layers", zeros))) }, "no image refers to it", 2},
		{"catalog without a layer", func(t *testing.T, s *Store, img *Image) { _ = os.RemoveAll(s.layerDir(img.Layers[0])) }, "its layer is not there", 2},
		{"leftover", func(t *testing.T, s *Store, _ *Image) { _ = os.Mkdir(filepath.Join(s.Root(), "tmp/import-1"), 0o700) }, "process that died", 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ctx := context.Background()
			s := newStore(t)
			img := importTar(t, s, "x", file("a", "a"))
			importTar(t, s, "y", file("b", "b"))
			requireClean(t, s)
			c.breakS(t, s, img)
			r, err := s.Check(ctx, false)
			if err != nil || r.Clean() || !strings.Contains(r.Problems[0].What, c.want) {
				t.Fatalf("found %+v, %v; want %q", r, err, c.want)
			}
			if r, err = s.Check(ctx, true); err != nil || !r.Clean() {
				t.Fatalf("repaired %+v, %v", r, err)
			}
			requireClean(t, s)
			images, err := s.Images()
			if err != nil || len(images) != c.images {
				t.Errorf("%d images are left, want %d, %v", len(images), c.images, err)
			}
			for _, img := range images {
				layerTree(t, s, img)
			}
			requireClean(t, s)
		})
	}
}

// TestChangedLayer: that somebody has changed a layer is told, and nothing hides it.
func TestChangedLayer(t *testing.T) {
	s := newStore(t)
	img := importTar(t, s, "x", dir("d"), file("d/a", "a"))
	if err := os.Remove(filepath.Join(s.layerDir(img.Layers[0]), "d", "a")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r, err := s.Check(context.Background(), true)
		if err != nil || len(r.Problems) != 1 || !strings.Contains(r.Problems[0].What, "was changed since it was unpacked") || r.Problems[0].Repaired {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

// TestCatalogs: every unpacked layer has a catalog, which goes with it.
func TestCatalogs(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	base := importTar(t, s, "base", dir("d"), file("d/a", "a"))
	img := commitFile(t, s, base, "d/b", "b", CommitOptions{})
	dirs, err := s.Layers(ctx, img)
	if err != nil || len(dirs) != 2 {
		t.Fatalf("layers %q, %v", dirs, err)
	}
	for _, dir := range dirs {
		if err := cow.CheckCatalog(CatalogOf(dir), dir); err != nil || !exists(CatalogOf(dir)) {
			t.Errorf("the catalog of %s: %v", dir, err)
		}
	}
	requireClean(t, s)
	for _, name := range []string{"b", "base"} {
		if _, err := s.Remove(name, RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := names(s.path("layers")); err != nil || len(left) > 0 {
		t.Errorf("left in layers/: %q, %v", left, err)
	}
}

// TestCorruptLayerIsNotUnpacked: what is on disk is verified again before use.
func TestCorruptLayerIsNotUnpacked(t *testing.T) {
	s := newStore(t)
	base := importTar(t, s, "", dir("./"))
	img := commitFile(t, s, base, "f", "x", CommitOptions{})
	path := s.blobPath(img.Layers[1].Blob)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte("xxx"), []byte("xyx"), 1)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = s.Layers(context.Background(), img)
	if err == nil || !strings.Contains(err.Error(), "layer "+img.Layers[1].DiffID.String()) {
		t.Errorf("error %v", err)
	}
	if left, err := names(s.path("tmp")); err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %q, %v", left, err)
	}
}

// TestOpenBesideDamage: a damaged image is no reason not to open the store, whatever an operation beside it has left over.
func TestOpenBesideDamage(t *testing.T) {
	s := newStore(t)
	whole := importTar(t, s, "whole", file("f", "1"))
	img := importTar(t, s, "damaged", file("f", "2"))
	if err := os.WriteFile(s.blobPath(digest.Digest(img.ID)), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove("nosuch", RemoveOptions{}); err == nil {
		t.Fatal("an image that is not there was removed")
	}
	if left, err := names(s.path("tmp")); err != nil || len(left) > 0 {
		t.Errorf("left over by a command that changed nothing: %q, %v", left, err)
	}
	mkdirs(t, s.path("tmp", "import-killed"))
	s, err := Open(s.root)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Resolve("whole"); err != nil || got.ID != whole.ID {
		t.Errorf("the other image: %v", err)
	}
	if _, err := s.Check(context.Background(), true); err != nil {
		t.Errorf("repair: %v", err)
	}
	if _, err := Open(s.root); err != nil {
		t.Errorf("open after the repair: %v", err)
	}
	if left, err := names(s.path("tmp")); err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
}

// TestImportAroundStore imports a directory in which the store itself lies.
func TestImportAroundStore(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(filepath.Join(dir, "deep", "store"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "deep", "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	img, err := s.ImportDir(context.Background(), dir, "around", ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tree := layerTree(t, s, img)
	if _, ok := tree["deep/file"]; !ok || len(tree) > 3 {
		t.Errorf("the layer has %d objects", len(tree))
	}
}

// TestLoadedNames are those of the archive, whatever else the image is called here.
func TestLoadedNames(t *testing.T) {
	s := newStore(t)
	importTar(t, s, "app:1", file("f", "1"))
	var b bytes.Buffer
	if err := s.Save(context.Background(), &b, []string{"app:1"}, OCIArchive); err != nil {
		t.Fatal(err)
	}
	if err := s.Tag("app:1", "other:9"); err != nil {
		t.Fatal(err)
	}
	images, err := s.Load(context.Background(), &b, LoadOptions{})
	if err != nil || len(images) != 1 || !slices.Equal(images[0].Names, []string{"app:1"}) {
		t.Errorf("%+v, %v", images, err)
	}
}

// TestHistoryOfElsewhere: a history that does not fit its layers is shown as far as it goes.
func TestHistoryOfElsewhere(t *testing.T) {
	s := newStore(t)
	img := importTar(t, s, "app:1", file("f", "1"))
	img.Config.History = append(img.Config.History, img.Config.History[0], img.Config.History[0])
	rows, err := s.History(img)
	if err != nil || len(rows) != 3 || rows[2].Size != 1 || rows[0].Size != 0 {
		t.Errorf("%+v, %v", rows, err)
	}
}

// TestRemoveWhileHeld: the removal of an image waits for those who are about to use it.
func TestRemoveWhileHeld(t *testing.T) {
	s := newStore(t)
	img := importTar(t, s, "app:1", file("f", "1"))
	release, err := s.Hold(img.ID)
	if err != nil {
		t.Fatal(err)
	}
	var users atomic.Pointer[[]string]
	users.Store(new([]string))
	removed := make(chan error)
	go func() {
		_, err := s.Remove("app:1", RemoveOptions{InUse: func(string) ([]string, error) { return *users.Load(), nil }})
		removed <- err
	}()
	if _, err := s.Resolve(img.ID); err != nil {
		t.Error(err)
	}
	users.Store(&[]string{"0123456789abcdef"})
	release()
	if err := <-removed; !errors.Is(err, ErrInUse) {
		t.Errorf("the removal: %v", err)
	}
	if _, err := s.Remove("app:1", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hold(img.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("held though it is gone: %v", err)
	}
}

// TestUntag takes names away and leaves the image.
func TestUntag(t *testing.T) {
	s := newStore(t)
	img := importTar(t, s, "base", file("a", "a"))
	for _, name := range []string{"other", "third"} {
		if err := s.Tag("base", name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Untag("base", []string{"foreign"}); err == nil {
		t.Error("a name that it has not is taken away")
	}
	for _, names := range [][]string{{"other"}, nil} {
		if err := s.Untag(img.ID, names); err != nil {
			t.Fatal(err)
		}
		_, err := s.Resolve("third")
		if gone := errors.Is(err, ErrNotFound); gone != (names == nil) {
			t.Errorf("after untag %q: %v", names, err)
		}
	}
	if left, err := s.Resolve(img.ID); err != nil || len(left.Names) != 0 {
		t.Errorf("%v, %v", left, err)
	}
	requireClean(t, s)
}
