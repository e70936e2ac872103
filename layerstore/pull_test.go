package layerstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mica/internal/imageref"
	"mica/internal/registry"
	"mica/internal/registrytest"
)

// repository opens the repository of a name, as nobody in particular.
func openRepository(t testing.TB, ref string) *registry.Repository {
	t.Helper()
	named, err := imageref.Parse(ref)
	if err != nil {
		t.Fatal(err)
	}
	nobody := filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(nobody, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	repo, err := registry.Open(named, registry.Options{AuthFile: nobody})
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

func tryPull(t testing.TB, s *Store, ref string, opt PullOptions) (*Pulled, error) {
	t.Helper()
	return s.Pull(context.Background(), openRepository(t, ref), ref, opt)
}

func pull(t testing.TB, s *Store, ref string) *Pulled {
	t.Helper()
	p, err := tryPull(t, s, ref, PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// remoteLayer is a layer as a registry has it.
type remoteLayer struct {
	tar  []byte
	kind compression
}

// dialect is a family of media types.
type dialect struct{ manifest, index, config, layer string }

var (
	ociDialect    = dialect{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer}
	dockerDialect = dialect{dockerMediaManifest, dockerMediaManifestList, dockerMediaConfig, dockerMediaLayer + "diff.tar"}
)

// putImage gives a registry an image, and tells its manifest.
func putImage(t testing.TB, reg *registrytest.Registry, repo, tag string, as dialect, arch string, layers ...remoteLayer) ocispec.Descriptor {
	t.Helper()
	cfg := ImageConfig{Architecture: arch, OS: "linux", RootFS: RootFS{Type: "layers"}}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: as.manifest}
	for _, l := range layers {
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, digest.FromBytes(l.tar))
		cfg.History = append(cfg.History, HistoryEntry{CreatedBy: "step"})
		blob, mediaType := compressed(t, l.kind, l.tar), as.layer
		switch l.kind {
		case gzipped:
			mediaType += "+gzip"
			if as == dockerDialect {
				mediaType = as.layer + ".gzip"
			}
		case zstandard:
			mediaType += "+zstd"
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: mediaType, Digest: reg.AddBlob(repo, blob), Size: int64(len(blob))})
	}
	config := mustJSON(t, cfg)
	m.Config = ocispec.Descriptor{MediaType: as.config, Digest: reg.AddBlob(repo, config), Size: int64(len(config))}
	data := mustJSON(t, m)
	return ocispec.Descriptor{
		MediaType: as.manifest, Digest: reg.AddManifest(repo, tag, as.manifest, data), Size: int64(len(data)),
		Platform: &ocispec.Platform{OS: "linux", Architecture: arch},
	}
}

// putIndex gives a registry a list of manifests.
func putIndex(t testing.TB, reg *registrytest.Registry, repo, tag string, as dialect, list ...ocispec.Descriptor) digest.Digest {
	t.Helper()
	ix := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: as.index, Manifests: list}
	return reg.AddManifest(repo, tag, as.index, mustJSON(t, ix))
}

// twoLayers is an image with a whiteout in its second layer.
func twoLayers(t testing.TB) []remoteLayer {
	return []remoteLayer{
		{makeTar(t, dir("d/"), file("d/gone", "old"), file("f", strings.Repeat("lower ", 10_000))), gzipped},
		{makeTar(t, file("d/.wh.gone", ""), file("d/new", strings.Repeat("upper ", 20_000))), gzipped},
	}
}

// TestPullForms pulls images of all kinds: what comes is what was there.
func TestPullForms(t *testing.T) {
	reg := registrytest.New(t)
	want := newStore(t)
	tars := [][]byte{makeTar(t, dir("d/"), file("d/gone", "old"), hardlink("d/link", "d/gone")), makeTar(t, file("d/.wh.gone", ""), file("new", "upper"))}
	trees := layerTrees(t, want, loadLayers(t, want, "want", tars...))
	for _, as := range []dialect{ociDialect, dockerDialect} {
		for _, kind := range []compression{plain, gzipped, zstandard} {
			t.Run(fmt.Sprintf("%s %d", as.manifest, kind), func(t *testing.T) {
				desc := putImage(t, reg, "forms", "1", as, runtime.GOARCH, remoteLayer{tars[0], kind}, remoteLayer{tars[1], kind})
				s := newStore(t)
				p := pull(t, s, reg.Host()+"/forms:1")
				if p.Manifest != desc.Digest || p.Digest != desc.Digest || !p.New {
					t.Errorf("pulled %+v, want manifest %s", p, desc.Digest)
				}
				for i, tree := range layerTrees(t, s, p.Image) {
					diffTrees(t, tree, trees[i])
				}
				if again := pull(t, s, reg.Host()+"/forms:1"); again.New {
					t.Error("the same image again counts as new")
				}
				requireClean(t, s)
			})
		}
	}
}

// layerTrees reads all layers of an image, topmost first.
func layerTrees(t testing.TB, s *Store, img *Image) []map[string]node {
	t.Helper()
	dirs, err := s.Layers(context.Background(), img)
	if err != nil {
		t.Fatal(err)
	}
	var trees []map[string]node
	for _, dir := range dirs {
		trees = append(trees, readTree(t, dir))
	}
	return trees
}

// TestPullPlatform takes the image for a platform out of a list.
func TestPullPlatform(t *testing.T) {
	reg := registrytest.New(t)
	for _, as := range []dialect{ociDialect, dockerDialect} {
		own := putImage(t, reg, "multi", "", as, runtime.GOARCH, remoteLayer{makeTar(t, file("own", "")), gzipped})
		other := putImage(t, reg, "multi", "other", as, "s390x", remoteLayer{makeTar(t, file("other", "")), gzipped})
		attestation := ocispec.Descriptor{MediaType: as.manifest, Digest: digest.FromString("x"), Size: 1, Annotations: map[string]string{attestationType: "attestation-manifest"},
			Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"}}
		top := putIndex(t, reg, "multi", "1", as, other, own, attestation)
		s := newStore(t)
		ref := reg.Host() + "/multi:1"
		p := pull(t, s, ref)
		if p.Manifest != own.Digest || p.Digest != top || !slices.Equal(p.Digests, []string{reg.Host() + "/multi@" + top.String()}) {
			t.Errorf("pulled %+v, want %s of %s", p, own.Digest, top)
		}
		// It is found by either digest, without a registry.
		for _, d := range []digest.Digest{top, own.Digest} {
			if img, err := s.Resolve(reg.Host() + "/multi@" + d.String()); err != nil || img.ID != p.ID {
				t.Errorf("by digest %s: %+v, %v", d, img, err)
			}
		}
		if p, err := tryPull(t, s, ref, PullOptions{Platform: "linux/s390x"}); err != nil || p.Manifest != other.Digest {
			t.Errorf("for s390x: %+v, %v", p, err)
		}
		_, err := tryPull(t, s, ref, PullOptions{Platform: "linux/riscv64"})
		if want := "no image for linux/riscv64; it has linux/s390x, linux/" + runtime.GOARCH; err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("for riscv64: %v", err)
		}
		_, err = tryPull(t, s, reg.Host()+"/multi:other", PullOptions{Platform: "linux/amd64"})
		if err == nil || !strings.Contains(err.Error(), "the image is for linux/s390x, not for linux/amd64") {
			t.Errorf("of the wrong platform: %v", err)
		}
		requireClean(t, s)
	}
}

// TestParsePlatform reads platforms as Docker does.
func TestParsePlatform(t *testing.T) {
	for text, want := range map[string]string{
		"linux/amd64": "linux/amd64", "linux/x86_64": "linux/amd64", "linux/aarch64": "linux/arm64", "arm64": "linux/arm64", "Linux/AMD64": "linux/amd64",
		"linux/arm64/v8": "linux/arm64/v8", "armhf": "linux/arm/v7", "linux/arm/V6": "linux/arm/v6", "windows/amd64": "windows/amd64",
		"": "", "linux": "", "linux/": "", "/amd64": "", "linux/arm/v6/x": "",
	} {
		p, err := ParsePlatform(text)
		if got := platformName(p); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q is %s, %v; want %q", text, got, err, want)
		}
	}
}

// TestPullVariant takes the variant that every machine of an architecture has, wherever it stands in a list.
func TestPullVariant(t *testing.T) {
	reg := registrytest.New(t)
	s := newStore(t)
	for _, c := range []struct {
		platform string
		have     []string
		want     string
	}{
		{"linux/amd64", []string{"v3", ""}, ""},
		{"linux/amd64", []string{"", "v3"}, ""},
		{"linux/amd64", []string{"v3", "v2", "v1"}, "v1"},
		{"linux/amd64", []string{"v3"}, "v3"},
		{"linux/amd64/v3", []string{"", "v3"}, "v3"},
		{"linux/arm64", []string{"v9", "v8"}, "v8"},
		{"linux/arm", []string{"v5", "v6", "v7"}, "v7"},
	} {
		arch := strings.Split(c.platform, "/")[1]
		var list []ocispec.Descriptor
		var want digest.Digest
		for _, variant := range c.have {
			d := putImage(t, reg, "app", "", ociDialect, arch, remoteLayer{makeTar(t, file(arch+variant, "")), plain})
			d.Platform.Variant = variant
			if list = append(list, d); variant == c.want {
				want = d.Digest
			}
		}
		putIndex(t, reg, "app", "1", ociDialect, list...)
		p, err := tryPull(t, s, reg.Host()+"/app:1", PullOptions{Platform: c.platform})
		if err != nil || p.Manifest != want {
			t.Errorf("of %q for %s: %+v, %v", c.have, c.platform, p, err)
		}
	}
}

// TestPullTags: two tags of one image lead there by lists of their own, and each is known by its own.
func TestPullTags(t *testing.T) {
	reg := registrytest.New(t)
	own := putImage(t, reg, "app", "", ociDialect, runtime.GOARCH, twoLayers(t)...)
	other := putImage(t, reg, "app", "", ociDialect, "s390x", twoLayers(t)...)
	s := newStore(t)
	want := map[string]digest.Digest{
		reg.Host() + "/app:1": putIndex(t, reg, "app", "1", ociDialect, own),
		reg.Host() + "/app:2": putIndex(t, reg, "app", "2", ociDialect, own, other),
	}
	check := func() {
		t.Helper()
		for name := range want {
			img, err := s.Resolve(name)
			if err != nil {
				t.Fatal(err)
			}
			if got := img.RegistryDigest(name); got != want[name] || len(img.Digests) < 2 {
				t.Errorf("%s is %s, of %q; want %s", name, got, img.Digests, want[name])
			}
		}
	}
	for _, tag := range []string{"1", "2"} {
		pull(t, s, reg.Host()+"/app:"+tag)
	}
	check()
	pull(t, s, reg.Host()+"/app@"+own.Digest.String())
	check()
	want[reg.Host()+"/app:1"] = putIndex(t, reg, "app", "1", ociDialect, other, own)
	pull(t, s, reg.Host()+"/app:1")
	check()
}

// TestPullLongPlatform keeps of a platform what names it, not all that a list can say.
func TestPullLongPlatform(t *testing.T) {
	reg := registrytest.New(t)
	s := newStore(t)
	for tag, change := range map[string]func(*ocispec.Platform){
		"1": func(p *ocispec.Platform) { p.OSFeatures = []string{strings.Repeat("x", 1<<20)} },
		"2": func(p *ocispec.Platform) { p.Variant = strings.Repeat("x", 1<<20) },
	} {
		d := putImage(t, reg, "app", "", ociDialect, runtime.GOARCH, remoteLayer{makeTar(t, file(tag, "")), plain})
		change(d.Platform)
		putIndex(t, reg, "app", tag, ociDialect, d)
		pull(t, s, reg.Host()+"/app:"+tag)
	}
	if st, err := os.Stat(filepath.Join(s.Root(), ocispec.ImageIndexFile)); err != nil || st.Size() > 4096 {
		t.Errorf("the index has %d bytes, %v", st.Size(), err)
	}
}

// TestPullHost: no image gets the name of this machine's own root. Nobody is asked for it.
func TestPullHost(t *testing.T) {
	_, err := newStore(t).Pull(context.Background(), nil, "host", PullOptions{})
	if err == nil || !strings.Contains(err.Error(), "this machine's own root is called that") {
		t.Errorf("error %v", err)
	}
}

// TestPullByDigest brings an image without a name, which stays to be found by its digest.
func TestPullByDigest(t *testing.T) {
	reg := registrytest.New(t)
	desc := putImage(t, reg, "app", "1", ociDialect, runtime.GOARCH, twoLayers(t)...)
	s := newStore(t)
	ref := reg.Host() + "/app@" + desc.Digest.String()
	p := pull(t, s, ref)
	if len(p.Names) != 0 || !p.New || !slices.Equal(p.Digests, []string{ref}) {
		t.Errorf("pulled %+v", p)
	}
	if pull(t, s, ref).New {
		t.Error("it is new again")
	}
	// A name of its own takes nothing away, nor does the pull of its tag.
	if err := s.Tag(ref, "mine"); err != nil {
		t.Fatal(err)
	}
	pull(t, s, reg.Host()+"/app:1")
	img, err := s.Resolve(ref)
	if err != nil || !slices.Equal(img.Names, []string{reg.Host() + "/app:1", "mine:latest"}) || !slices.Equal(img.Digests, []string{ref}) {
		t.Errorf("found %+v, %v", img, err)
	}
	requireClean(t, s)
}

// TestRemoveByDigest takes what one repository calls an image, and leaves it to another that names it.
func TestRemoveByDigest(t *testing.T) {
	reg, other := registrytest.New(t), registrytest.New(t)
	for _, r := range []*registrytest.Registry{reg, other} {
		putImage(t, r, "app", "1", ociDialect, runtime.GOARCH, twoLayers(t)...)
	}
	s := newStore(t)
	p := pull(t, s, reg.Host()+"/app:1")
	ref := other.Host() + "/app@" + p.Manifest.String()
	for _, more := range [][]string{nil, {other.Host() + "/app:1"}} {
		pull(t, s, ref)
		for _, name := range more {
			pull(t, s, name)
		}
		var want []Removed
		for _, name := range append(more, ref) {
			want = append(want, Removed{Untagged: name})
		}
		removed, err := s.Remove(ref, RemoveOptions{})
		if err != nil || !slices.Equal(removed, want) {
			t.Errorf("removed %+v, %v; want %+v", removed, err, want)
		}
		if _, err := s.Resolve(ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s is still there: %v", ref, err)
		}
	}
	img, err := s.Resolve(reg.Host() + "/app:1")
	if err != nil || !slices.Equal(img.Digests, p.Digests) {
		t.Fatalf("the other name has %+v, %v", img, err)
	}
	if _, err := s.Remove(p.Digests[0], RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if r := requireClean(t, s); r.Images != 0 {
		t.Errorf("left: %+v", r)
	}
}

// TestPullWrongDiffID: a blob is verified, also where a layer of the diffID that its image names is here already.
func TestPullWrongDiffID(t *testing.T) {
	reg := registrytest.New(t)
	layer := makeTar(t, file("f", strings.Repeat("content ", 10_000)))
	putImage(t, reg, "app", "1", ociDialect, runtime.GOARCH, remoteLayer{layer, gzipped})
	putImage(t, reg, "app", "other", ociDialect, runtime.GOARCH, remoteLayer{layer, zstandard})
	s := newStore(t)
	pull(t, s, reg.Host()+"/app:1")
	whole := compressed(t, gzipped, layer)
	for want, blob := range map[string][]byte{
		"not the one that the image names": compressed(t, gzipped, makeTar(t, file("evil", ""))),
		"the archive is truncated":         whole[:len(whole)-4],
	} {
		m := new(ocispec.Manifest)
		if err := parseDocument(reg.Manifest("app", "1").Data, "", m); err != nil {
			t.Fatal(err)
		}
		m.Layers[0].Digest, m.Layers[0].Size = reg.AddBlob("app", blob), int64(len(blob))
		reg.AddManifest("app", "evil", ocispec.MediaTypeImageManifest, mustJSON(t, m))
		if _, err := tryPull(t, s, reg.Host()+"/app:evil", PullOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	pull(t, s, reg.Host()+"/app:other")
	requireClean(t, s)
}

// TestPullWrongSize: a layer that is here has the size that it has, whatever a manifest says.
func TestPullWrongSize(t *testing.T) {
	reg := registrytest.New(t)
	putImage(t, reg, "app", "1", ociDialect, runtime.GOARCH, twoLayers(t)...)
	s := newStore(t)
	pull(t, s, reg.Host()+"/app:1")
	m := new(ocispec.Manifest)
	if err := parseDocument(reg.Manifest("app", "1").Data, "", m); err != nil {
		t.Fatal(err)
	}
	m.Layers[0].Size = 100
	reg.AddManifest("app", "2", ocispec.MediaTypeImageManifest, mustJSON(t, m))
	if _, err := tryPull(t, s, reg.Host()+"/app:2", PullOptions{}); err == nil || !strings.Contains(err.Error(), "its descriptor says 100") {
		t.Errorf("error %v", err)
	}
	requireClean(t, s)
}

// TestPullMends brings what was damaged in the store anew.
func TestPullMends(t *testing.T) {
	reg := registrytest.New(t)
	putImage(t, reg, "app", "1", ociDialect, runtime.GOARCH, twoLayers(t)...)
	for what, damage := range map[string]func(*Store, string) error{
		"shorter": func(_ *Store, blob string) error { return os.WriteFile(blob, []byte("{}"), 0o600) },
		"other, and no trees": func(s *Store, blob string) error {
			st, err := os.Stat(blob)
			if err != nil {
				return err
			}
			layers, _ := filepath.Glob(filepath.Join(s.Root(), "layers/*"))
			for _, path := range layers {
				if err := os.RemoveAll(path); err != nil {
					return err
				}
			}
			return os.WriteFile(blob, make([]byte, st.Size()), 0o600)
		},
	} {
		s := newStore(t)
		pull(t, s, reg.Host()+"/app:1")
		blobs, err := filepath.Glob(filepath.Join(s.Root(), "blobs/sha256/*"))
		if err != nil || len(blobs) != 4 {
			t.Fatalf("%q, %v", blobs, err)
		}
		for _, blob := range blobs {
			if err := damage(s, blob); err != nil {
				t.Fatal(err)
			}
		}
		p, err := tryPull(t, s, reg.Host()+"/app:1", PullOptions{})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		layerTrees(t, s, p.Image)
		requireClean(t, s)
	}
}

// TestBlobsAreSmall: a blob that has been written holds no buffers any more, however many wait for their turn.
func TestBlobsAreSmall(t *testing.T) {
	s := newStore(t)
	ses, err := s.begin("pull")
	if err != nil {
		t.Fatal(err)
	}
	defer ses.end()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var blobs []*blobWriter
	for range 20 {
		w, err := ses.newBlob()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.wait(); err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, w)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); held > blobChunk {
		t.Errorf("%d blobs hold %d bytes", len(blobs), held)
	}
	runtime.KeepAlive(blobs)
}

// TestPullShared fetches no blob that the store has.
func TestPullShared(t *testing.T) {
	reg := registrytest.New(t)
	layers := twoLayers(t)
	putImage(t, reg, "app", "1", ociDialect, runtime.GOARCH, layers...)
	putImage(t, reg, "app", "2", ociDialect, runtime.GOARCH, append(layers, remoteLayer{makeTar(t, file("third", "")), gzipped})...)
	s := newStore(t)
	for _, step := range []struct {
		tag  string
		want int // blobs, with the configuration
	}{{"1", 3}, {"1", 0}, {"2", 2}, {"2", 0}} {
		before, _ := reg.Blobs()
		pull(t, s, reg.Host()+"/app:"+step.tag)
		if after, _ := reg.Blobs(); after-before != step.want {
			t.Errorf("%s: %d blobs were fetched, want %d", step.tag, after-before, step.want)
		}
	}
	requireClean(t, s)
}

// isBlob tells whether a request is for a blob of an image, if it is not the configuration.
func isBlob(r *http.Request, desc ocispec.Descriptor) bool {
	return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/blobs/"+desc.Digest.String())
}

// layersOf reads the descriptors of an image that a registry has.
func layersOf(t testing.TB, reg *registrytest.Registry, repo, tag string) []ocispec.Descriptor {
	t.Helper()
	m := new(ocispec.Manifest)
	if err := parseDocument(reg.Manifest(repo, tag).Data, "", m); err != nil {
		t.Fatal(err)
	}
	return m.Layers
}

// answer writes a body of a size that it does not tell.
func answer(w http.ResponseWriter, data []byte) {
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	_, _ = w.Write(data)
}

// cut writes the beginning of a body and breaks the connection.
func cut(w http.ResponseWriter, size int64, data []byte) {
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	_, _ = w.Write(data)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// TestPullFailures has a registry do everything wrong: the error says what, and nothing is left.
func TestPullFailures(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(reg *registrytest.Registry, layer ocispec.Descriptor)
		hook    func(w http.ResponseWriter, r *http.Request, layer ocispec.Descriptor) bool
		want    string // DIGEST stands for the layer's
	}{
		"truncated blob": {hook: func(w http.ResponseWriter, r *http.Request, l ocispec.Descriptor) bool {
			if isBlob(r, l) {
				cut(w, l.Size, make([]byte, 10))
			}
			return false
		}, want: "blob DIGEST: the connection to HOST was cut"},
		"shorter blob": {prepare: func(reg *registrytest.Registry, l ocispec.Descriptor) {
			reg.PutBlob("app", l.Digest, make([]byte, l.Size-1))
		}, want: "blob DIGEST: HOST: "},
		"longer blob": {hook: func(w http.ResponseWriter, r *http.Request, l ocispec.Descriptor) bool {
			if isBlob(r, l) {
				answer(w, make([]byte, l.Size+1))
				return true
			}
			return false
		}, want: "blob DIGEST is longer than"},
		"wrong digest": {prepare: func(reg *registrytest.Registry, l ocispec.Descriptor) {
			reg.PutBlob("app", l.Digest, make([]byte, l.Size))
		}, want: "blob DIGEST is corrupt: its content has digest sha256:"},
		"missing blob": {hook: failFor("/blobs/", http.StatusNotFound, "BLOB_UNKNOWN"), want: "HOST has no blob "},
		"no image":     {hook: failFor("/manifests/", http.StatusNotFound, "MANIFEST_UNKNOWN"), want: "HOST has no image app:1"},
		"denied":       {hook: failFor("/manifests/", http.StatusUnauthorized, "UNAUTHORIZED"), want: `HOST denies access to app: there is none, or it takes "mica login HOST"`},
		"too many":     {hook: failFor("/manifests/", http.StatusTooManyRequests, "TOOMANYREQUESTS"), want: "HOST limits how often it is asked (status 429)"},
		"out of order": {hook: failFor("/manifests/", http.StatusInternalServerError, "UNKNOWN"), want: "HOST answers with status 500, Internal Server Error"},
		"schema 1": {prepare: func(reg *registrytest.Registry, _ ocispec.Descriptor) {
			reg.AddManifest("app", "1", dockerMediaSchema1JWS, []byte(`{"schemaVersion":1}`))
		}, want: "is of Docker's schema 1"},
		"artifact": {prepare: func(reg *registrytest.Registry, _ ocispec.Descriptor) {
			reg.AddManifest("app", "1", ocispec.MediaTypeImageManifest, artifact(t))
		}, want: "is that of no image but of application/vnd.example.config"},
		"no manifest": {prepare: func(reg *registrytest.Registry, _ ocispec.Descriptor) {
			reg.AddManifest("app", "1", "text/html", []byte(`<html>`))
		}, want: "it is no JSON document"},
		"other type": {prepare: func(reg *registrytest.Registry, _ ocispec.Descriptor) {
			reg.AddManifest("app", "1", "text/json", []byte(`{}`))
		}, want: `is no image: its media type is "text/json"`},
		"bad digest":    {prepare: badDescriptor(t, "sha256:../../x", 1), want: "invalid checksum digest"},
		"bad size":      {prepare: badDescriptor(t, digest.FromString("x").String(), -1), want: "has a size of -1 bytes"},
		"large config":  {prepare: badDescriptor(t, digest.FromString("x").String(), 1<<40), want: "is larger than the 16 MiB"},
		"endless index": {hook: endless, want: "the manifest of app:1 is larger than 4 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := registrytest.New(t)
			putImage(t, reg, "app", "1", ociDialect, runtime.GOARCH, twoLayers(t)...)
			layer := layersOf(t, reg, "app", "1")[1]
			if c.prepare != nil {
				c.prepare(reg, layer)
			}
			if c.hook != nil {
				reg.Hook = func(w http.ResponseWriter, r *http.Request) bool { return c.hook(w, r, layer) }
			}
			s := newStore(t)
			before := listing(t, s.Root())
			_, err := tryPull(t, s, reg.Host()+"/app:1", PullOptions{})
			want := strings.NewReplacer("DIGEST", layer.Digest.String(), "HOST", reg.Host()).Replace(c.want)
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, want)
			}
			if after := listing(t, s.Root()); !slices.Equal(before, after) {
				t.Errorf("left behind: %q, before %q", after, before)
			}
		})
	}
}

func failFor(part string, status int, code string) func(http.ResponseWriter, *http.Request, ocispec.Descriptor) bool {
	return func(w http.ResponseWriter, r *http.Request, _ ocispec.Descriptor) bool {
		if !strings.Contains(r.URL.Path, part) {
			return false
		}
		registrytest.Fail(w, status, code, "no")
		return true
	}
}

func endless(w http.ResponseWriter, r *http.Request, _ ocispec.Descriptor) bool {
	if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/manifests/") {
		return false
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	blanks := bytes.Repeat([]byte(" "), 1<<20)
	for r.Context().Err() == nil {
		if _, err := w.Write(blanks); err != nil {
			break
		}
	}
	return true
}

func artifact(t testing.TB) []byte {
	return mustJSON(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		Config:    ocispec.Descriptor{MediaType: "application/vnd.example.config", Digest: digest.FromString("x"), Size: 1},
	})
}

// badDescriptor gives the registry an image whose configuration nobody should ask for.
func badDescriptor(t testing.TB, d string, size int64) func(*registrytest.Registry, ocispec.Descriptor) {
	return func(reg *registrytest.Registry, _ ocispec.Descriptor) {
		reg.AddManifest("app", "1", ocispec.MediaTypeImageManifest, mustJSON(t, ocispec.Manifest{
			Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.Digest(d), Size: size},
		}))
	}
}

// listing lists all files of a tree.
func listing(t testing.TB, root string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		if name, _ := filepath.Rel(root, path); name != "lock" { // which the first use makes
			list = append(list, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestPullResumed cuts a connection in the middle of a blob: what has come is not fetched again.
func TestPullResumed(t *testing.T) {
	reg := registrytest.New(t)
	putImage(t, reg, "app", "1", ociDialect, runtime.GOARCH, remoteLayer{makeTar(t, file("f", strings.Repeat("content ", 100_000))), plain})
	layer := layersOf(t, reg, "app", "1")[0]
	var once sync.Once
	var ranges []string
	reg.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, layer) {
			return false
		}
		ranges = append(ranges, r.Header.Get("Range"))
		first := false
		once.Do(func() { first = true })
		if first {
			var whole bytes.Buffer
			tw := makeTar(t, file("f", strings.Repeat("content ", 100_000)))
			whole.Write(tw)
			cut(w, layer.Size, whole.Bytes()[:layer.Size/2])
		}
		return false
	}
	s := newStore(t)
	pull(t, s, reg.Host()+"/app:1")
	if last := ranges[len(ranges)-1]; !strings.HasPrefix(last, "bytes=") || last == "bytes=0-" {
		t.Errorf("asked for the ranges %q", ranges)
	}
	requireClean(t, s)
}

// TestPullTwice has two pulls of one image at once, both of which succeed.
func TestPullTwice(t *testing.T) {
	reg := registrytest.New(t)
	putImage(t, reg, "app", "1", ociDialect, runtime.GOARCH, twoLayers(t)...)
	layer := layersOf(t, reg, "app", "1")[0]
	var both sync.WaitGroup // neither gets the blob before both ask for it
	both.Add(2)
	reg.Hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if isBlob(r, layer) {
			both.Done()
			both.Wait()
		}
		return false
	}
	s := newStore(t)
	var pulls sync.WaitGroup
	for range 2 {
		pulls.Go(func() {
			if _, err := tryPull(t, s, reg.Host()+"/app:1", PullOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
	pulls.Wait()
	if r := requireClean(t, s); r.Images != 1 || r.Layers != 2 {
		t.Errorf("the store holds %+v", r)
	}
}

// TestPullCancelled interrupts a pull in the middle of a blob: it ends at once, and nothing is left.
func TestPullCancelled(t *testing.T) {
	reg := registrytest.New(t)
	putImage(t, reg, "app", "1", ociDialect, runtime.GOARCH, twoLayers(t)...)
	layer := layersOf(t, reg, "app", "1")[1]
	ctx, cancel := context.WithCancel(context.Background())
	reg.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, layer) {
			return false
		}
		answer(w, make([]byte, 100))
		cancel()
		<-r.Context().Done()
		return true
	}
	s := newStore(t)
	before := listing(t, s.Root())
	_, err := s.Pull(ctx, openRepository(t, reg.Host()+"/app:1"), reg.Host()+"/app:1", PullOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if after := listing(t, s.Root()); !slices.Equal(before, after) {
		t.Errorf("left behind: %q, before %q", after, before)
	}
}

// TestPullUnlocked changes the store while a blob is on its way.
func TestPullUnlocked(t *testing.T) {
	reg := registrytest.New(t)
	putImage(t, reg, "app", "1", ociDialect, runtime.GOARCH, twoLayers(t)...)
	layer := layersOf(t, reg, "app", "1")[1]
	s := newStore(t)
	pull(t, s, putShared(t, reg))
	reg.Hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if isBlob(r, layer) {
			importTar(t, s, "other", file("x", ""))
			// What the pull wants to take from the store goes from there.
			if _, err := s.Remove(reg.Host()+"/shared:1", RemoveOptions{}); err != nil {
				t.Error(err)
			}
		}
		return false
	}
	p := pull(t, s, reg.Host()+"/app:1")
	if trees := layerTrees(t, s, p.Image); len(trees) != 2 {
		t.Errorf("layers %v", trees)
	}
	requireClean(t, s)
}

// putShared gives the registry an image of the first layer of twoLayers.
func putShared(t testing.TB, reg *registrytest.Registry) string {
	putImage(t, reg, "shared", "1", ociDialect, runtime.GOARCH, twoLayers(t)[0])
	return reg.Host() + "/shared:1"
}

// storeSource is another store as a registry.
type storeSource struct{ s *Store }

func (r storeSource) Manifest(_ context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	ix, err := r.s.readIndex()
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	d, _ := ix.byName("app:" + reference)
	data, err := r.s.readDocument(d.Digest)
	return d, data, err
}

func (r storeSource) Blob(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	return os.Open(r.s.blobPath(d.Digest))
}
