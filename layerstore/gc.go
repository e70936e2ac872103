package layerstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
)

// GC removes blobs and unpacked layers that no image refers to.
func (s *Store) GC(ctx context.Context) (GCResult, error) {
	t, err := s.begin("gc")
	if err != nil {
		return GCResult{}, fmt.Errorf("collect: %w", err)
	}
	defer t.end()
	unlock, err := s.lockExclusive()
	if err != nil {
		return GCResult{}, fmt.Errorf("collect: %w", err)
	}
	defer unlock()
	if err := ctx.Err(); err != nil {
		return GCResult{}, err
	}
	res, err := t.collect()
	if err != nil {
		return res, fmt.Errorf("collect: %w", err)
	}
	return res, nil
}

// references is what the images of an index need.
type references struct {
	blobs  map[string]bool // hex digests
	layers map[string]bool // names of layers, see layerOf
}

// references finds what the images of ix need. An image that cannot be read
// makes it fail: what it needs is not known then.
func (s *Store) references(ix *index) (references, error) {
	refs := references{make(map[string]bool), make(map[string]bool)}
	for _, d := range ix.Manifests {
		if err := validDigest(d.Digest); err != nil {
			return refs, err
		}
		m, err := s.manifest(ix, d.Digest)
		if err != nil {
			return refs, imageError(d, err)
		}
		cfg, err := s.config(m)
		if err != nil {
			return refs, imageError(d, err)
		}
		refs.add(d.Digest, m.Config.Digest)
		for _, l := range m.Layers {
			refs.add(l.Digest)
		}
		for _, id := range layerNames(cfg) {
			refs.layers[id] = true
		}
	}
	return refs, nil
}

func (r references) add(digests ...digest.Digest) {
	for _, d := range digests {
		r.blobs[d.Encoded()] = true
	}
}

// collect moves what nothing refers to into the session's directory, which
// removes it when it ends. The caller holds the exclusive lock.
func (t *session) collect() (GCResult, error) {
	var res GCResult
	ix, err := t.s.readIndex()
	if err != nil {
		return res, err
	}
	refs, err := t.s.references(ix)
	if err != nil {
		return res, err
	}
	blobs, err := names(t.s.path("blobs", "sha256"))
	if err != nil {
		return res, err
	}
	for _, name := range blobs {
		if refs.blobs[name] {
			continue
		}
		size, err := t.discard(t.s.path("blobs", "sha256", name))
		if err != nil {
			return res, err
		}
		res.Blobs++
		res.Bytes += size
	}
	layers, err := names(t.s.path("layers"))
	if err != nil {
		return res, err
	}
	for _, name := range layers {
		if refs.layers[layerOf(name)] {
			continue
		}
		if _, err := t.discard(t.s.path("layers", name)); err != nil {
			return res, err
		}
		if layerOf(name) == name {
			res.Layers++
		}
	}
	return res, nil
}

// discard moves path into the session's directory.
func (t *session) discard(path string) (size int64, err error) {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := os.Rename(path, t.newPath("trash")); err != nil {
		return 0, err
	}
	return st.Size(), t.point("discarded")
}

func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", filepath.Base(dir), err)
	}
	list := make([]string, len(entries))
	for i, e := range entries {
		list[i] = e.Name()
	}
	return list, nil
}
