package layerstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Source is a repository of a registry, as [Store.Pull] needs it. Nothing that it
// gives is trusted: the store verifies all of it. Its methods are called by several goroutines.
type Source interface {
	// Manifest reads the manifest, or list of them, that a tag or a digest leads
	// to, and bounds its size. The descriptor has the media type that the registry says.
	Manifest(ctx context.Context, reference string) (ocispec.Descriptor, []byte, error)
	// Blob opens a blob.
	Blob(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error)
}

// Track follows the content of a blob on its way. It is called by several goroutines.
type Track func(d ocispec.Descriptor, r io.Reader) io.Reader

// PullOptions say what is pulled, and how.
type PullOptions struct {
	Platform string // OS/ARCH[/VARIANT]; empty: this machine's
	Track    Track  // may be nil
	Found    func() // called when the registry has answered that it has the image; may be nil
}

// Pulled is what came of a pull.
type Pulled struct {
	*Image
	Digest digest.Digest // of what the name led to: the manifest, or the list that it was chosen from
	New    bool          // the store did not have this image by that name
}

// Pull takes the image NAME[:TAG] or NAME@DIGEST over from a registry. Blobs
// that the store has are not fetched again. The store is not locked meanwhile, and is as it was if the pull fails.
func (s *Store) Pull(ctx context.Context, src Source, ref string, opt PullOptions) (*Pulled, error) {
	p, err := s.pull(ctx, src, ref, opt)
	if err != nil {
		return nil, fmt.Errorf("pull %s: %w", ref, err)
	}
	return p, nil
}

func (s *Store) pull(ctx context.Context, src Source, ref string, opt PullOptions) (*Pulled, error) {
	named, err := parseName(ref)
	if err != nil {
		return nil, err
	}
	name := "" // of what comes by its digest
	if named.Digest != "" {
		err = validDigest(digest.Digest(named.Digest))
	} else {
		name, err = NormalizeName(ref)
	}
	if err != nil {
		return nil, err
	}
	t, err := s.begin("pull")
	if err != nil {
		return nil, err
	}
	defer t.end()
	remote := newRemoteBlobs(ctx, t, src, opt.Track)
	defer remote.close()
	l := &loader{t: t, blobs: remote}
	if opt.Platform != "" {
		if l.platform, err = ParsePlatform(opt.Platform); err != nil {
			return nil, err
		}
	}
	top, err := remote.top(named.Reference())
	if err == nil {
		if opt.Found != nil {
			opt.Found()
		}
		err = l.layoutImage(remote.ctx, top, nil)
	}
	if err != nil {
		return nil, remote.failure(err)
	}
	return l.publishPull(named.Name, name, top.Digest)
}

// top reads what a tag or digest leads to.
func (r *remoteBlobs) top(reference string) (ocispec.Descriptor, error) {
	d, data, err := r.src.Manifest(r.ctx, reference)
	if err != nil {
		return d, err
	}
	got := digest.FromBytes(data)
	if want := digest.Digest(reference); want.Validate() == nil && got != want {
		return d, fmt.Errorf("manifest %s is corrupt: its content has digest %s", want, got)
	}
	if d.Digest != "" && d.Digest != got {
		return d, fmt.Errorf("manifest %s is corrupt: its content has digest %s", d.Digest, got)
	}
	mediaType, err := manifestType(d.MediaType, data)
	if err != nil {
		return d, fmt.Errorf("manifest %s: %w", got, err)
	}
	r.docs[got] = data
	return ocispec.Descriptor{MediaType: mediaType, Digest: got, Size: int64(len(data))}, nil
}

// manifestType is the media type that a manifest has by what it says itself, or
// else by what the registry says: the latter is covered by no digest.
func manifestType(said string, data []byte) (string, error) {
	var doc struct {
		SchemaVersion int    `json:"schemaVersion"`
		MediaType     string `json:"mediaType"`
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		return "", errors.New("it is no JSON document")
	}
	switch {
	case doc.SchemaVersion == 1:
		return dockerMediaSchema1, nil
	case doc.MediaType != "":
		return doc.MediaType, nil
	}
	return said, nil
}

// publishPull adds the pulled image to the store, under name if it is not
// empty, and notes what the registry knows it by.
func (l *loader) publishPull(repo, name string, top digest.Digest) (*Pulled, error) {
	p := &Pulled{Digest: top}
	desc := l.loaded[0].desc
	err := l.t.publish(func(ix *index) error {
		old, named := ix.byName(name)
		p.New = !ix.has(desc.Digest) || name != "" && (!named || old.Digest != desc.Digest)
		ix.add(desc, name)
		ix.note(desc.Digest, name, repo+"@"+top.String())
		return nil
	})
	if err != nil {
		return nil, err
	}
	if p.Image, err = l.t.s.reload(desc); err != nil {
		return nil, err
	}
	return p, nil
}
