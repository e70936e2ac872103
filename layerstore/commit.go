package layerstore

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mica/cow"
)

// Changes is a stream of changes, as [cow.FS.Changes] gives it.
type Changes func(ctx context.Context, fn func(*cow.Change) error) error

// Commit makes an image of parent, which may be nil, and changes over it. The
// parent's layers are shared. Without changes the new image has the parent's
// layers only and an empty step in its history, as in Docker.
func (s *Store) Commit(ctx context.Context, parent *Image, changes Changes, opt CommitOptions) (*Image, error) {
	name, err := optionalName(opt.Ref)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	cfg := childConfig(parent, opt)
	if err := ApplyChanges(&cfg.Config, opt.Changes); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	t, err := s.begin("commit")
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	defer t.end()
	layers, err := s.parentLayers(parent)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if !opt.Created.IsZero() {
		changes = notAfter(changes, opt.Created)
	}
	layer, written, err := t.commitLayer(ctx, changes)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	if written.Entries == 0 && len(layers) > 0 {
		cfg.History[len(cfg.History)-1].EmptyLayer = true
		delete(t.blobs, layer.Digest)
	} else {
		layers = append(layers, layer)
		if err := checkLayerCount(len(layers)); err != nil {
			return nil, fmt.Errorf("commit: %w", err)
		}
		cfg.RootFS.DiffIDs = append(cfg.RootFS.DiffIDs, layer.Digest)
		t.infos[layer.Digest.Encoded()] = written.layerInfo
	}
	img, err := t.publishImage(cfg, layers, name, origin{parent, opt.OverHost, opt.Step})
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return img, nil
}

// notAfter is a stream of changes in which nothing is younger than a moment.
func notAfter(changes Changes, limit time.Time) Changes {
	return func(ctx context.Context, fn func(*cow.Change) error) error {
		return changes(ctx, func(c *cow.Change) error {
			if c.Mtime.After(limit) {
				c.Mtime = limit
			}
			return fn(c)
		})
	}
}

// commitLayer stages the archive of the changes: a plain tar, so that it costs a
// copy and a hash and no more.
func (t *session) commitLayer(ctx context.Context, changes Changes) (ocispec.Descriptor, writtenLayer, error) {
	blob, err := t.newBlob()
	if err != nil {
		return ocispec.Descriptor{}, writtenLayer{}, err
	}
	written, err := writeLayer(ctx, blob, changes)
	if err != nil {
		_ = blob.wait()
		return ocispec.Descriptor{}, written, err
	}
	if err := t.point("archived"); err != nil {
		_ = blob.wait()
		return ocispec.Descriptor{}, written, err
	}
	desc, err := blob.finish("", ocispec.MediaTypeImageLayer)
	return desc, written, err
}

// childConfig is the configuration of parent with one more step, and those before it that were not committed on their own.
func childConfig(parent *Image, opt CommitOptions) *ImageConfig {
	now := opt.Created.UTC()
	if opt.Created.IsZero() {
		now = time.Now().UTC()
	}
	cfg := &ImageConfig{OS: "linux", Architecture: runtime.GOARCH, RootFS: RootFS{Type: "layers"}}
	if parent != nil {
		*cfg = *parent.Config
		cfg.RootFS.DiffIDs = slices.Clone(cfg.RootFS.DiffIDs)
	}
	if opt.Config != nil {
		cfg.Config = *opt.Config
	}
	cfg.Config = cfg.Config.Clone()
	cfg.Created, cfg.Author = &now, opt.Author
	cfg.History = slices.Clone(cfg.History)
	for _, step := range opt.Steps {
		step.Created, step.EmptyLayer = &now, true
		cfg.History = append(cfg.History, step)
	}
	cfg.History = append(cfg.History, HistoryEntry{
		Created: &now, CreatedBy: opt.CreatedBy, Author: opt.Author, Comment: opt.Message,
	})
	return cfg
}

// parentLayers gives the parent's layers for the manifest of its child, by
// OCI's media types, which a manifest from Docker does not use.
func (s *Store) parentLayers(parent *Image) ([]ocispec.Descriptor, error) {
	if parent == nil {
		return nil, nil
	}
	ix, unlock, err := s.sharedIndex()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !ix.has(parent.Manifest) {
		return nil, fmt.Errorf("%w: %s was removed meanwhile", ErrNotFound, parent.ID)
	}
	m, err := s.manifest(ix, parent.Manifest)
	if err != nil {
		return nil, err
	}
	layers := make([]ocispec.Descriptor, 0, len(m.Layers)+1)
	for _, l := range m.Layers {
		layers = append(layers, ocispec.Descriptor{MediaType: ociLayerType(l.MediaType), Digest: l.Digest, Size: l.Size})
	}
	return layers, nil
}

// ociLayerType is the OCI name of a layer's media type.
func ociLayerType(mediaType string) string {
	switch mediaType {
	case "application/vnd.docker.image.rootfs.diff.tar.gzip":
		return ocispec.MediaTypeImageLayerGzip
	case "application/vnd.docker.image.rootfs.diff.tar":
		return ocispec.MediaTypeImageLayer
	}
	return mediaType
}
