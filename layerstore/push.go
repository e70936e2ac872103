package layerstore

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
)

// Target is a repository of a registry, as [Store.Push] needs it. Its methods are called by several goroutines.
type Target interface {
	// HasBlob tells whether the repository has a blob.
	HasBlob(ctx context.Context, d ocispec.Descriptor) (bool, error)
	// PutBlob uploads a blob, or has the registry take it from the repository
	// that from names, if it is not empty and the registry can. open may be called several times.
	PutBlob(ctx context.Context, d ocispec.Descriptor, from string, open func() (io.ReadCloser, error)) error
	// PutManifest uploads a manifest, whose blobs the repository has, under a tag.
	PutManifest(ctx context.Context, d ocispec.Descriptor, data []byte, tag string) error
}

// PushOptions say how an image is pushed.
type PushOptions struct {
	Track Track // may be nil
	// Blob, which may be nil, is told what came of a layer: "Pushed", "Mounted from NAME", "Layer already exists".
	Blob func(l Layer, what string)
}

// Push gives the image NAME[:TAG] to a registry, as it is: its blobs as they are stored, then its manifest. Only
// blobs that the registry does not have are uploaded.
func (s *Store) Push(ctx context.Context, dst Target, ref string, opt PushOptions) (ocispec.Descriptor, error) {
	desc, err := s.push(ctx, dst, ref, opt)
	if err != nil {
		return desc, fmt.Errorf("push %s: %w", ref, err)
	}
	return desc, nil
}

func (s *Store) push(ctx context.Context, dst Target, ref string, opt PushOptions) (ocispec.Descriptor, error) {
	var none ocispec.Descriptor
	name, err := NormalizeName(ref)
	if err != nil {
		return none, err
	}
	t, err := s.begin("push")
	if err != nil {
		return none, err
	}
	defer t.end()
	p, err := t.pinImage(name)
	if err != nil {
		return none, err
	}
	if err := p.blobs(ctx, dst, opt); err != nil {
		return none, err
	}
	named, err := parseName(name)
	if err != nil {
		return none, err
	}
	data, err := os.ReadFile(t.blobs[p.desc.Digest])
	if err != nil {
		return none, fmt.Errorf("read manifest: %w", err)
	}
	if err := dst.PutManifest(ctx, p.desc, data, named.Reference()); err != nil {
		return none, err
	}
	clear(t.blobs) // they are to go back into the store in no case
	err = t.publish(func(ix *index) error {
		ix.note(p.desc.Digest, named.Tagged(), named.Name+"@"+p.desc.Digest.String())
		return nil
	})
	return p.desc, err
}

// pushed is an image whose blobs are the session's until it has been pushed.
type pushed struct {
	t      *session
	desc   ocispec.Descriptor
	config ocispec.Descriptor
	layers []ocispec.Descriptor
	image  *Image
	from   map[digest.Digest]string // repositories of the same registry that have a blob
}

// pinImage finds the image of this name and keeps all of it from being removed.
func (t *session) pinImage(name string) (*pushed, error) {
	ix, unlock, err := t.s.sharedIndex()
	if err != nil {
		return nil, err
	}
	defer unlock()
	d, ok := ix.byName(name)
	if !ok {
		return nil, fmt.Errorf("%w by that name: see \"mica images\", or give one the name with \"mica tag\"", ErrNotFound)
	}
	m, err := t.s.manifest(ix, d.Digest)
	if err != nil {
		return nil, err
	}
	p := &pushed{t: t, config: m.Config, layers: m.Layers, from: t.s.elsewhere(ix, name)}
	if p.image, err = t.s.image(ix, d); err != nil {
		return nil, err
	}
	p.desc = ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
	for _, d := range append([]ocispec.Descriptor{d, m.Config}, m.Layers...) {
		if have, err := t.pin(d.Digest); err != nil {
			return nil, err
		} else if !have {
			return nil, fmt.Errorf("blob %s is missing; see \"mica system check\"", d.Digest)
		}
	}
	return p, nil
}

// elsewhere finds the blobs that other repositories of the registry of name are known to have.
func (s *Store) elsewhere(ix *index, name string) map[digest.Digest]string {
	own, err := parseName(name)
	if err != nil {
		return nil
	}
	from := make(map[digest.Digest]string)
	for _, d := range ix.Manifests {
		for _, ref := range repoDigests(d) {
			other, err := parseName(ref)
			if err != nil || other.Full == own.Full || other.Domain() != own.Domain() {
				continue
			}
			m, err := s.manifest(ix, d.Digest)
			if err != nil {
				continue
			}
			for _, l := range m.Layers {
				from[l.Digest] = other.Path()
			}
		}
	}
	return from
}

// blobs uploads the layers and the configuration, several at once.
func (p *pushed) blobs(ctx context.Context, dst Target, opt PushOptions) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelBlobs)
	var told sync.Mutex
	var seen []digest.Digest
	for i, d := range append(slices.Clone(p.layers), p.config) {
		if slices.Contains(seen, d.Digest) {
			continue
		}
		seen = append(seen, d.Digest)
		g.Go(func() error {
			what, err := p.blob(ctx, dst, d, opt.Track)
			if err != nil {
				return fmt.Errorf("blob %s: %w", d.Digest, err)
			}
			if opt.Blob != nil && i < len(p.layers) {
				told.Lock()
				defer told.Unlock()
				opt.Blob(p.image.Layers[i], what)
			}
			return nil
		})
	}
	return g.Wait()
}

func (p *pushed) blob(ctx context.Context, dst Target, d ocispec.Descriptor, track Track) (what string, err error) {
	if has, err := dst.HasBlob(ctx, d); err != nil {
		return "", err
	} else if has {
		return "Layer already exists", nil
	}
	read := false
	from := p.from[d.Digest]
	err = dst.PutBlob(ctx, d, from, func() (io.ReadCloser, error) {
		read = true
		f, err := os.Open(p.t.blobs[d.Digest])
		if err != nil || track == nil {
			return f, err
		}
		return struct {
			io.Reader
			io.Closer
		}{track(d, f), f}, nil
	})
	if err == nil && !read {
		return "Mounted from " + from, nil
	}
	return "Pushed", err
}
