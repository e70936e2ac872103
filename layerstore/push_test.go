package layerstore

import (
	"bytes"
	"context"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"mica/cow"
	"mica/internal/registrytest"
)

func push(t testing.TB, s *Store, ref string) []string {
	t.Helper()
	var said []string
	desc, err := s.Push(context.Background(), openRepository(t, ref), ref, PushOptions{Blob: func(_ Layer, what string) { said = append(said, what) }})
	if err != nil {
		t.Fatal(err)
	}
	if img, err := s.Resolve(ref); err != nil || img.Manifest != desc.Digest {
		t.Errorf("pushed %s of %+v, %v", desc.Digest, img, err)
	}
	slices.Sort(said)
	return said
}

// builtImage is an image of three layers, one compressed and two as commits write them.
func builtImage(t testing.TB, s *Store, ref string) *Image {
	t.Helper()
	ctx := context.Background()
	base, err := s.Import(ctx, bytes.NewReader(compressed(t, gzipped, makeTar(t, dir("d/"), file("d/a", "one"), hardlink("d/b", "d/a"), symlink("l", "d/a")))), "", ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Commit(ctx, base, fixedChanges(&cow.Change{Path: "d/a", Kind: cow.Deleted}, addedFile("two", "2")), CommitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	img, err := s.Commit(ctx, second, fixedChanges(addedDir("e"), addedFile("e/three", "3")), CommitOptions{Ref: ref, Changes: []string{"CMD [\"x\"]"}})
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// TestPushPull is the law: what is pushed and pulled again is the same image, to its manifest and its trees.
func TestPushPull(t *testing.T) {
	reg := registrytest.New(t)
	ref := reg.Host() + "/a/b:1"
	s := newStore(t)
	img := builtImage(t, s, ref)
	if said := push(t, s, ref); !slices.Equal(said, []string{"Pushed", "Pushed", "Pushed"}) {
		t.Errorf("said %q", said)
	}
	other := newStore(t)
	p := pull(t, other, ref)
	if p.Manifest != img.Manifest || p.ID != img.ID || p.Size != img.Size {
		t.Errorf("pulled %+v, want %+v", p, img)
	}
	want := layerTrees(t, s, img)
	for i, tree := range layerTrees(t, other, p.Image) {
		diffTrees(t, tree, want[i])
	}
	if pushed, err := s.Resolve(ref); err != nil || !slices.Equal(pushed.Digests, p.Digests) {
		t.Errorf("known by %+v, %v; want %q", pushed, err, p.Digests)
	}
	requireClean(t, s)
	requireClean(t, other)
}

// TestPushDocker pushes an image of Docker's media types as it came.
func TestPushDocker(t *testing.T) {
	reg, other := registrytest.New(t), registrytest.New(t)
	desc := putImage(t, reg, "app", "1", dockerDialect, runtime.GOARCH, twoLayers(t)...)
	s := newStore(t)
	ref := other.Host() + "/copy:1"
	pull(t, s, reg.Host()+"/app:1")
	if err := s.Tag(reg.Host()+"/app:1", ref); err != nil {
		t.Fatal(err)
	}
	push(t, s, ref)
	if got := other.Manifest("copy", "1"); got.Type != dockerDialect.manifest || digest.FromBytes(got.Data) != desc.Digest {
		t.Errorf("the registry has a manifest of type %s, digest %s", got.Type, digest.FromBytes(got.Data))
	}
}

// TestPushAgain uploads nothing that the registry has: in the repository itself, or in another one that is known.
func TestPushAgain(t *testing.T) {
	reg := registrytest.New(t)
	s := newStore(t)
	ref, second := reg.Host()+"/app:1", reg.Host()+"/other"
	builtImage(t, s, ref)
	push(t, s, ref)
	_, before := reg.Blobs()
	if said := push(t, s, ref); !slices.Equal(said, slices.Repeat([]string{"Layer already exists"}, 3)) {
		t.Errorf("said %q", said)
	}
	if _, after := reg.Blobs(); after != before {
		t.Errorf("%d blobs were uploaded again", after-before)
	}
	if err := s.Tag(ref, second); err != nil {
		t.Fatal(err)
	}
	if said := push(t, s, second); !slices.Equal(said, slices.Repeat([]string{"Mounted from app"}, 3)) {
		t.Errorf("said %q", said)
	}
	requireClean(t, s)
}

// TestPushFailures says what is wrong, and lets no manifest in before its blobs.
func TestPushFailures(t *testing.T) {
	s := newStore(t)
	for name, c := range map[string]struct {
		status int
		want   string
	}{
		"denied":  {http.StatusForbidden, `denies access to app: there is none, or it takes "mica login HOST"`},
		"storage": {http.StatusInsufficientStorage, "HOST answers with status 507"},
	} {
		reg := registrytest.New(t)
		ref := reg.Host() + "/app:1"
		builtImage(t, s, ref)
		reg.Hook = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method != http.MethodPut {
				return false
			}
			registrytest.Fail(w, c.status, "DENIED", "no")
			return true
		}
		_, err := s.Push(context.Background(), openRepository(t, ref), ref, PushOptions{})
		if want := strings.ReplaceAll(c.want, "HOST", reg.Host()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
		if n := reg.Count("PUT /v2/app/manifests/"); n > 0 {
			t.Errorf("%s: the manifest was sent", name)
		}
	}
	_, err := s.Push(context.Background(), nil, "nothing", PushOptions{})
	if err == nil || !strings.Contains(err.Error(), "no such image by that name") {
		t.Errorf("error %v", err)
	}
	requireClean(t, s)
}

// TestPushCut cuts the connection in the middle of an upload, which begins anew.
func TestPushCut(t *testing.T) {
	reg := registrytest.New(t)
	var once sync.Once
	reg.Hook = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/uploads/") {
			once.Do(func() { panic(http.ErrAbortHandler) })
		}
		return false
	}
	s := newStore(t)
	ref := reg.Host() + "/app:1"
	builtImage(t, s, ref)
	push(t, s, ref)
	pull(t, newStore(t), ref)
}
