// Package registrytest is a registry of images in memory, for tests: it does what it is told wrong.
package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// Registry is a registry that listens on the loopback.
type Registry struct {
	*httptest.Server
	// Hook sees every request first, and has dealt with it if it says so. It is set before the first request.
	Hook func(w http.ResponseWriter, r *http.Request) bool

	mu        sync.Mutex // guards all below
	blobs     map[string]map[digest.Digest][]byte
	manifests map[string]map[string]Manifest // by repository; by tag and by digest
	log       []string
}

// Manifest is a manifest as it was given to the registry.
type Manifest struct {
	Type string
	Data []byte
}

// New starts a registry without TLS that is stopped with the test.
func New(t testing.TB) *Registry {
	r := Unstarted(t)
	r.Start()
	return r
}

// Unstarted is New of a registry that the test starts.
func Unstarted(t testing.TB) *Registry {
	r := &Registry{blobs: make(map[string]map[digest.Digest][]byte), manifests: make(map[string]map[string]Manifest)}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

// Host is its name in names of images: an address and a port.
func (r *Registry) Host() string { return r.Listener.Addr().String() }

// AddBlob gives it a blob.
func (r *Registry) AddBlob(repo string, data []byte) digest.Digest {
	d := digest.FromBytes(data)
	r.PutBlob(repo, d, data)
	return d
}

// PutBlob gives it a blob under any digest, right or wrong.
func (r *Registry) PutBlob(repo string, d digest.Digest, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.blobs[repo] == nil {
		r.blobs[repo] = make(map[digest.Digest][]byte)
	}
	r.blobs[repo][d] = data
}

// AddManifest gives it a manifest under a tag, which may be empty, and its digest.
func (r *Registry) AddManifest(repo, tag, mediaType string, data []byte) digest.Digest {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.manifests[repo] == nil {
		r.manifests[repo] = make(map[string]Manifest)
	}
	d := digest.FromBytes(data)
	r.manifests[repo][d.String()] = Manifest{mediaType, data}
	if tag != "" {
		r.manifests[repo][tag] = Manifest{mediaType, data}
	}
	return d
}

// Manifest is what it has under a tag.
func (r *Registry) Manifest(repo, tag string) Manifest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.manifests[repo][tag]
}

// Count tells how many requests had a line, such as "GET /v2/app/blobs/sha256:...", that begins so, and forgets none.
func (r *Registry) Count(prefix string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, line := range r.log {
		if strings.HasPrefix(line, prefix) {
			n++
		}
	}
	return n
}

// Blobs tells how many blobs were asked for, and how many uploads of one begun.
func (r *Registry) Blobs() (fetched, uploaded int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.log {
		switch {
		case strings.HasPrefix(line, "GET ") && strings.Contains(line, "/blobs/"):
			fetched++
		case strings.HasPrefix(line, "POST ") && strings.Contains(line, "/blobs/uploads/"):
			uploaded++
		}
	}
	return fetched, uploaded
}

func (r *Registry) serve(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.log = append(r.log, req.Method+" "+req.URL.RequestURI())
	r.mu.Unlock()
	if r.Hook != nil && r.Hook(w, req) {
		return
	}
	path, ok := strings.CutPrefix(req.URL.Path, "/v2/")
	if !ok {
		Fail(w, http.StatusNotFound, "UNSUPPORTED", "this is no registry")
		return
	}
	if path == "" {
		return
	}
	for _, part := range []struct {
		name string
		do   func(w http.ResponseWriter, req *http.Request, repo, rest string)
	}{{"/manifests/", r.serveManifest}, {"/blobs/uploads/", r.serveUpload}, {"/blobs/", r.serveBlob}, {"/tags/list", r.serveTags}} {
		if repo, rest, ok := strings.Cut(path, part.name); ok {
			part.do(w, req, repo, rest)
			return
		}
	}
	Fail(w, http.StatusNotFound, "UNSUPPORTED", "no such path")
}

// Fail answers with an error as registries do.
func Fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}

func (r *Registry) serveManifest(w http.ResponseWriter, req *http.Request, repo, ref string) {
	if req.Method == http.MethodPut {
		data, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		d := r.AddManifest(repo, ref, req.Header.Get("Content-Type"), data)
		w.Header().Set("Docker-Content-Digest", d.String())
		w.WriteHeader(http.StatusCreated)
		return
	}
	r.mu.Lock()
	m, ok := r.manifests[repo][ref]
	r.mu.Unlock()
	if !ok {
		Fail(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
		return
	}
	w.Header().Set("Content-Type", m.Type)
	w.Header().Set("Docker-Content-Digest", digest.FromBytes(m.Data).String())
	w.Header().Set("Content-Length", fmt.Sprint(len(m.Data)))
	if req.Method == http.MethodGet {
		_, _ = w.Write(m.Data)
	}
}

func (r *Registry) serveBlob(w http.ResponseWriter, req *http.Request, repo, ref string) {
	r.mu.Lock()
	data, ok := r.blobs[repo][digest.Digest(ref)]
	r.mu.Unlock()
	if !ok {
		Fail(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown")
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(data))
}

func (r *Registry) serveUpload(w http.ResponseWriter, req *http.Request, repo, id string) {
	switch req.Method {
	case http.MethodPost:
		r.begin(w, req, repo)
	case http.MethodPut:
		data, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		if want := digest.Digest(req.URL.Query().Get("digest")); digest.FromBytes(data) != want {
			Fail(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
			return
		}
		r.AddBlob(repo, data)
		w.WriteHeader(http.StatusCreated)
	default:
		Fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "upload "+id)
	}
}

// begin begins an upload, unless another repository has the blob to mount.
func (r *Registry) begin(w http.ResponseWriter, req *http.Request, repo string) {
	d, from := digest.Digest(req.URL.Query().Get("mount")), req.URL.Query().Get("from")
	r.mu.Lock()
	data, ok := r.blobs[from][d]
	r.mu.Unlock()
	if ok {
		r.PutBlob(repo, d, data)
		w.WriteHeader(http.StatusCreated)
		return
	}
	w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/1")
	w.WriteHeader(http.StatusAccepted)
}

func (r *Registry) serveTags(w http.ResponseWriter, _ *http.Request, repo, _ string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var tags []string
	for ref := range r.manifests[repo] {
		if !strings.Contains(ref, ":") {
			tags = append(tags, fmt.Sprintf("%q", ref))
		}
	}
	if tags == nil {
		Fail(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
		return
	}
	slices.Sort(tags)
	fmt.Fprintf(w, `{"name":%q,"tags":[%s]}`, repo, strings.Join(tags, ","))
}
