package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry"
)

// MaxManifest is the most bytes that a manifest, or list of them, may have.
const MaxManifest = 4 << 20

// Manifest reads the manifest, or list of them, that a tag or a digest leads to.
func (r *Repository) Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	var places []place
	for _, p := range r.places {
		isDigest := registry.Reference{Reference: reference}.ValidateReferenceAsDigest() == nil
		if p.only == "" || (p.only == "digest") == isDigest {
			places = append(places, p)
		}
	}
	type found struct {
		desc ocispec.Descriptor
		data []byte
	}
	f, err := choose(ctx, r, places, func(c *conn) (f found, err error) {
		f.desc, f.data, err = c.manifest(ctx, reference)
		return f, err
	})
	return f.desc, f.data, err
}

func (c *conn) manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	for try := 0; ; try++ {
		desc, data, err := c.manifestOnce(ctx, reference)
		if err == nil || !again(ctx, try, err) {
			return desc, data, missing("image", c.named(reference), err)
		}
	}
}

func (c *conn) manifestOnce(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error) {
	desc, rc, err := c.repo.Manifests().FetchReference(ctx, reference)
	if err != nil {
		return desc, nil, err
	}
	defer rc.Close()
	data, err := io.ReadAll(io.LimitReader(rc, MaxManifest+1))
	if err == nil && len(data) > MaxManifest {
		err = fmt.Errorf("the manifest of %s is larger than %d MiB", c.named(reference), MaxManifest>>20)
	}
	return desc, data, err
}

// named is the name of an image here.
func (c *conn) named(reference string) string {
	ref := c.Reference
	ref.Reference = reference
	return ref.String()[len(ref.Registry)+1:]
}

// Blob opens a blob. A connection that is cut is made anew.
func (r *Repository) Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	c, err := r.conn(ctx)
	if err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return c.repo.Blobs().Fetch(ctx, d) }
	rc, err := open()
	if err != nil {
		return nil, c.explain(missing("blob", d.Digest.String(), err))
	}
	return explaining{&resumed{ctx: ctx, open: open, rc: rc, size: d.Size}, c}, nil
}

// explaining says of errors of reading what they mean.
type explaining struct {
	io.ReadCloser
	c *conn
}

func (e explaining) Read(p []byte) (int, error) {
	n, err := e.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = e.c.explain(err)
	}
	return n, err
}

// Tags lists all tags.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	return choose(ctx, r, r.places, func(c *conn) (all []string, err error) {
		err = c.repo.Tags(ctx, "", func(some []string) error {
			all = append(all, some...)
			return nil
		})
		return all, missing("repository", c.Repository, err)
	})
}

// HasBlob tells whether the repository has a blob.
func (r *Repository) HasBlob(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	c, err := r.conn(ctx)
	if err != nil {
		return false, err
	}
	has, err := c.repo.Blobs().Exists(ctx, d)
	return has, c.explain(err)
}

// PutBlob uploads a blob. If from names a repository of the same registry, the registry may take it from there.
func (r *Repository) PutBlob(ctx context.Context, d ocispec.Descriptor, from string, open func() (io.ReadCloser, error)) error {
	c, err := r.conn(ctx)
	if err != nil {
		return err
	}
	if from != "" && from != c.Repository {
		err := c.repo.Mount(ctx, d, from, open)
		if err == nil || ctx.Err() != nil {
			return err
		} // perhaps that one is not ours to read
	}
	for try := 0; ; try++ {
		err := c.upload(ctx, d, open)
		if err == nil || !again(ctx, try, err) {
			return c.explain(err)
		}
	}
}

func (c *conn) upload(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	rc, err := open()
	if err != nil {
		return err
	}
	defer rc.Close()
	return c.repo.Blobs().Push(ctx, d, rc)
}

// PutManifest uploads a manifest under a tag.
func (r *Repository) PutManifest(ctx context.Context, d ocispec.Descriptor, data []byte, tag string) error {
	c, err := r.conn(ctx)
	if err != nil {
		return err
	}
	return c.explain(c.repo.Manifests().PushReference(ctx, d, bytes.NewReader(data), tag))
}
