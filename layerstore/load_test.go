package layerstore

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// dockerSave makes an archive as old versions of `docker save` write it.
func dockerSave(t testing.TB, name string, layers ...[]byte) []tarEntry {
	t.Helper()
	cfg := ImageConfig{Architecture: "amd64", OS: "linux", RootFS: RootFS{Type: "layers"}}
	var entries []tarEntry
	img := dockerImage{RepoTags: []string{name}}
	for i, l := range layers {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromBytes(l))
		cfg.History = append(cfg.History, HistoryEntry{CreatedBy: "step"})
		path := strings.Repeat(string(rune('a'+i)), 8) + "/layer.tar"
		img.Layers = append(img.Layers, path)
		entries = append(entries, dir(filepath.Dir(path)), file(path, string(l)))
	}
	config := mustJSON(t, cfg)
	img.Config = digest.FromBytes(config).Encoded() + ".json"
	return append(entries, file(img.Config, string(config)), file(dockerManifest, string(mustJSON(t, []dockerImage{img}))))
}

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func tryLoadLayers(t testing.TB, s *Store, name string, layers ...[]byte) (*Image, error) {
	t.Helper()
	images, err := s.Load(context.Background(), bytes.NewReader(makeTar(t, dockerSave(t, name, layers...)...)), LoadOptions{})
	if err != nil {
		return nil, err
	}
	return images[0], nil
}

func loadLayers(t testing.TB, s *Store, name string, layers ...[]byte) *Image {
	t.Helper()
	img, err := tryLoadLayers(t, s, name, layers...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestSaveLoad(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	archive := makeTar(t, file("etc/f", "one"))
	one, err := s.Import(ctx, bytes.NewReader(compressed(t, gzipped, archive)), "one:1", ImportOptions{Changes: []string{"LABEL a=b"}})
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.Commit(ctx, one, fixedChanges(addedFile("g", "two")), CommitOptions{Ref: "reg.example:5000/a/two"})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []SaveFormat{OCIArchive, DockerArchive} {
		var buf bytes.Buffer
		if err := s.Save(ctx, &buf, []string{"one:1", "reg.example:5000/a/two"}, format); err != nil {
			t.Fatal(err)
		}
		var again bytes.Buffer
		if err := s.Save(ctx, &again, []string{"one:1", "reg.example:5000/a/two"}, format); err != nil || !bytes.Equal(buf.Bytes(), again.Bytes()) {
			t.Errorf("format %d: saving twice gives other bytes, %v", format, err)
		}
		for _, kind := range []compression{plain, gzipped} {
			other := newStore(t)
			images, err := other.Load(ctx, bytes.NewReader(compressed(t, kind, buf.Bytes())), LoadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if len(images) != 2 || images[0].ID != one.ID || images[1].ID != two.ID {
				t.Fatalf("format %d: loaded %+v", format, images)
			}
			if !slices.Equal(images[1].Names, two.Names) || images[1].Size != two.Size {
				t.Errorf("format %d: loaded %+v, want %+v", format, images[1], two)
			}
			if format == OCIArchive && images[0].Manifest != one.Manifest {
				t.Errorf("manifest %s, want %s", images[0].Manifest, one.Manifest)
			}
			diffTrees(t, layerTree(t, other, images[1]), layerTree(t, s, two))
			requireClean(t, other)
		}
	}
	// A store is itself an OCI image layout.
	other := newStore(t)
	images, err := other.LoadPath(ctx, s.Root(), LoadOptions{})
	if err != nil || len(images) != 2 {
		t.Fatalf("loaded %+v, %v", images, err)
	}
	requireClean(t, other)
}

func TestLoadNames(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	img := importTar(t, s, "x", file("a", "b"))
	var buf bytes.Buffer
	if err := s.Save(ctx, &buf, []string{img.ID}, OCIArchive); err != nil {
		t.Fatal(err)
	}
	other := newStore(t)
	images, err := other.Load(ctx, bytes.NewReader(buf.Bytes()), LoadOptions{})
	if err != nil || len(images[0].Names) != 0 {
		t.Fatalf("loaded %+v, %v", images, err)
	}
	images, err = other.Load(ctx, bytes.NewReader(buf.Bytes()), LoadOptions{Ref: "named"})
	if err != nil || !slices.Equal(images[0].Names, []string{"named:latest"}) {
		t.Fatalf("loaded %+v, %v", images, err)
	}
}

// TestLoadIndex picks this machine's image out of a list for several platforms.
func TestLoadIndex(t *testing.T) {
	ctx := context.Background()
	s := newStore(t)
	img := importTar(t, s, "x", file("a", "b"))
	manifest, err := os.ReadFile(s.blobPath(img.Manifest))
	if err != nil {
		t.Fatal(err)
	}
	foreign := digest.FromString("not in the archive")
	list := newIndex()
	list.Manifests = []ocispec.Descriptor{
		{MediaType: ocispec.MediaTypeImageManifest, Digest: foreign, Size: 3, Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}},
		{MediaType: ocispec.MediaTypeImageManifest, Digest: img.Manifest, Size: int64(len(manifest)), Platform: &ocispec.Platform{OS: "linux", Architecture: img.Config.Architecture}},
		{MediaType: ocispec.MediaTypeImageManifest, Digest: foreign, Size: 3, Annotations: map[string]string{attestationType: "attestation-manifest"}},
	}
	data := mustJSON(t, &list.Index)
	top := newIndex()
	top.Manifests = []ocispec.Descriptor{{
		MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromBytes(data), Size: int64(len(data)),
		Annotations: map[string]string{containerdName: "docker.io/library/multi:1", ocispec.AnnotationRefName: "1"},
	}}
	entries := []tarEntry{file("index.json", string(mustJSON(t, &top.Index))), file(blobName(digest.FromBytes(data)), string(data))}
	for _, d := range []digest.Digest{img.Manifest, digest.Digest(img.ID), img.Layers[0].Blob} {
		blob, err := os.ReadFile(s.blobPath(d))
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, file(blobName(d), string(blob)))
	}
	images, err := newStore(t).Load(ctx, bytes.NewReader(makeTar(t, entries...)), LoadOptions{})
	if err != nil || len(images) != 1 || images[0].ID != img.ID || !slices.Equal(images[0].Names, []string{"multi:1"}) {
		t.Errorf("loaded %+v, %v", images, err)
	}
}

// TestLoadSymlinks: old versions of Docker wrote a layer that two images share
// as a symlink.
func TestLoadSymlinks(t *testing.T) {
	layer := makeTar(t, file("a", "b"))
	entries := dockerSave(t, "x", layer)
	for i, e := range entries {
		if e.Name == "aaaaaaaa/layer.tar" {
			entries[i] = symlink(e.Name, "../real/layer.tar")
		}
	}
	entries = append(entries, file("real/layer.tar", string(layer)))
	if _, err := newStore(t).Load(context.Background(), bytes.NewReader(makeTar(t, entries...)), LoadOptions{}); err != nil {
		t.Error(err)
	}
}

func TestLoadErrors(t *testing.T) {
	layer := makeTar(t, file("a", "b"))
	good := dockerSave(t, "x", layer)
	edit := func(match string, change func(e *tarEntry)) []byte {
		entries := slices.Clone(good)
		for i := range entries {
			if strings.Contains(entries[i].Name, match) {
				change(&entries[i])
			}
		}
		return makeTar(t, entries...)
	}
	var oci bytes.Buffer
	src := newStore(t)
	importTar(t, src, "x", file("a", "content of the file"))
	if err := src.Save(context.Background(), &oci, []string{"x"}, OCIArchive); err != nil {
		t.Fatal(err)
	}
	corrupt := bytes.Replace(oci.Bytes(), []byte("content of the file"), []byte("Content of the file"), 1)
	hostile := makeTar(t, file("../escape", "x"))
	cases := []struct {
		name string
		data []byte
		opt  LoadOptions
		want string
	}{
		{"rootfs", makeTar(t, file("etc/passwd", "")), LoadOptions{}, "is imported instead"},
		{"truncated", makeTar(t, good...)[:1500], LoadOptions{}, "truncated"},
		{"wrong layer", edit("layer.tar", func(e *tarEntry) { e.content = string(makeTar(t, file("a", "c"))) }), LoadOptions{}, "not the one that the image names"},
		{"missing layer", edit("layer.tar", func(e *tarEntry) { e.Name = "elsewhere" }), LoadOptions{}, "is not in the archive"},
		{"wrong config", edit(".json", func(e *tarEntry) { e.content = strings.Replace(e.content, "amd64", "amd65", 1) }), LoadOptions{}, "is corrupt"},
		{"no images", makeTar(t, file(dockerManifest, "[]")), LoadOptions{}, "list of them is empty"},
		{"no JSON", makeTar(t, file("index.json", "{")), LoadOptions{}, "parse index.json"},
		{"corrupt blob", corrupt, LoadOptions{}, "is corrupt"},
		{"too many layers", makeTar(t, dockerSave(t, "x", slices.Repeat([][]byte{layer}, maxLayers+1)...)...), LoadOptions{}, "the image has 991 layers; at most 990"},
		{"hostile layer", makeTar(t, dockerSave(t, "x", hostile)...), LoadOptions{}, `entry "../escape": the name leads out of the layer`},
		{"config outside", makeTar(t, file(dockerManifest, `[{"Config":"../../../etc/passwd","Layers":[]}]`)), LoadOptions{}, "not in the archive"},
		{"bad digest", makeTar(t, file("index.json", `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:../../etc/passwd","size":1}]}`)), LoadOptions{}, "digest"},
		{"bad name", oci.Bytes(), LoadOptions{Ref: "A B"}, "name"},
	}
	s := newStore(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := s.Load(context.Background(), bytes.NewReader(c.data), c.opt)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, c.want)
			}
		})
	}
	if r := requireClean(t, s); r.Blobs != 0 || r.Layers != 0 {
		t.Errorf("left behind: %+v", r)
	}
}

// TestLoadMends: what has been damaged is whole again when its image is loaded anew.
func TestLoadMends(t *testing.T) {
	s := newStore(t)
	importTar(t, s, "x", file("a", "b"))
	var archive bytes.Buffer
	if err := s.Save(context.Background(), &archive, []string{"x"}, OCIArchive); err != nil {
		t.Fatal(err)
	}
	blobs, err := filepath.Glob(filepath.Join(s.Root(), "blobs/sha256/*"))
	if err != nil || len(blobs) != 3 {
		t.Fatalf("%q, %v", blobs, err)
	}
	for _, b := range blobs {
		if err := os.WriteFile(b, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Load(context.Background(), &archive, LoadOptions{}); err != nil {
		t.Fatal(err)
	}
	requireClean(t, s)
}

// TestLoadDirHostile: symlinks in a layout lead nowhere outside.
func TestLoadDirHostile(t *testing.T) {
	layout := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(layout, "index.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := newStore(t).LoadPath(context.Background(), layout, LoadOptions{}); err == nil {
		t.Error("a symlink out of the layout was followed")
	}
}
