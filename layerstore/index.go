package layerstore

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mica/internal/atomicfile"
)

// parentAnnotation, on an entry of index.json, is the ID of the image that the
// entry's image was committed from. It is known to this store only.
const parentAnnotation = "mica.parent"

// overHostAnnotation, on an entry of index.json, is there if the entry's image was committed over the root of the machine.
const overHostAnnotation = "mica.over-host"

// stepAnnotation, on an entry of index.json, is the step of a build that the entry's image is the result of.
const stepAnnotation = "mica.step"

// index is index.json. Every image has one entry for each of its names, or one
// entry without a name.
type index struct {
	ocispec.Index
	manifests map[digest.Digest]*ocispec.Manifest // those read so far
}

func newIndex() *index {
	return &index{
		Index: ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageIndex,
			Manifests: []ocispec.Descriptor{},
		},
		manifests: make(map[digest.Digest]*ocispec.Manifest),
	}
}

func (s *Store) readIndex() (*index, error) {
	path := s.path(ocispec.ImageIndexFile)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read index: %w", err)
	}
	ix := newIndex()
	if err := json.Unmarshal(data, &ix.Index); err != nil {
		return nil, fmt.Errorf("read index %s: %w", path, err)
	}
	return ix, nil
}

// sharedIndex reads the index under the shared lock, which holds until unlock is called.
func (s *Store) sharedIndex() (ix *index, unlock func(), err error) {
	if unlock, err = s.lockShared(); err != nil {
		return nil, nil, err
	}
	if ix, err = s.readIndex(); err != nil {
		unlock()
		return nil, nil, err
	}
	return ix, unlock, nil
}

// writeIndex replaces index.json. The caller holds the exclusive lock.
func (s *Store) writeIndex(ix *index) error {
	data, err := ix.encode()
	if err != nil {
		return err
	}
	err = s.withReserve(func() error { return atomicfile.ReplaceDurably(s.path(ocispec.ImageIndexFile), data) })
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}

func (ix *index) encode() ([]byte, error) {
	data, err := json.MarshalIndent(&ix.Index, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write index: %w", err)
	}
	return append(data, '\n'), nil
}

func refName(d ocispec.Descriptor) string { return d.Annotations[ocispec.AnnotationRefName] }

// byName finds the entry with this name.
func (ix *index) byName(name string) (ocispec.Descriptor, bool) {
	for _, d := range ix.Manifests {
		if refName(d) == name {
			return d, true
		}
	}
	return ocispec.Descriptor{}, false
}

// has tells whether any entry is this manifest.
func (ix *index) has(manifest digest.Digest) bool {
	return slices.ContainsFunc(ix.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == manifest })
}

// add makes d an entry, under name if it is not empty. The name is taken from
// whatever image had it before, which stays as an untagged one if
// it has no other.
func (ix *index) add(d ocispec.Descriptor, name string) {
	d = ix.withOrigin(d)
	d = withDigests(d, ix.digestsOf(d.Digest))
	if name == "" {
		if !ix.has(d.Digest) {
			ix.Manifests = append(ix.Manifests, withName(d, ""))
		}
		return
	}
	if old, ok := ix.byName(name); ok && old.Digest == d.Digest {
		return
	}
	ix.untag(name)
	ix.Manifests = slices.DeleteFunc(ix.Manifests, func(e ocispec.Descriptor) bool {
		return e.Digest == d.Digest && refName(e) == ""
	})
	ix.Manifests = append(ix.Manifests, withName(d, name))
}

// withOrigin is d with what is known already of how its image came about: it may come once more, from an archive.
func (ix *index) withOrigin(d ocispec.Descriptor) ocispec.Descriptor {
	for _, e := range ix.Manifests {
		if e.Digest != d.Digest {
			continue
		}
		d = withName(d, refName(d)) // with annotations of its own
		if d.Annotations == nil {
			d.Annotations = make(map[string]string)
		}
		for _, key := range []string{parentAnnotation, overHostAnnotation, stepAnnotation} {
			if value, ok := e.Annotations[key]; ok && d.Annotations[key] == "" {
				d.Annotations[key] = value
			}
		}
	}
	return d
}

// untag takes a name away; the image stays, without a name if this was its last.
func (ix *index) untag(name string) {
	i := slices.IndexFunc(ix.Manifests, func(e ocispec.Descriptor) bool { return refName(e) == name })
	if i < 0 {
		return
	}
	d := ix.Manifests[i]
	ix.Manifests = slices.Delete(ix.Manifests, i, i+1)
	if !ix.has(d.Digest) {
		ix.Manifests = slices.Insert(ix.Manifests, i, withName(d, ""))
	}
}

// remove takes away every entry of a manifest.
func (ix *index) remove(manifest digest.Digest) {
	ix.Manifests = slices.DeleteFunc(ix.Manifests, func(e ocispec.Descriptor) bool { return e.Digest == manifest })
}

// withName is d with its name replaced; the empty name removes it.
func withName(d ocispec.Descriptor, name string) ocispec.Descriptor {
	annotations := make(map[string]string, len(d.Annotations)+1)
	for k, v := range d.Annotations {
		annotations[k] = v
	}
	delete(annotations, ocispec.AnnotationRefName)
	if name != "" {
		annotations[ocispec.AnnotationRefName] = name
	}
	if len(annotations) == 0 {
		annotations = nil
	}
	d.Annotations = annotations
	return d
}
