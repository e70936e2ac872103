package layerstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Import makes a one-layer image of a root filesystem's archive: tar, plain or
// compressed with gzip, zstd, xz or bzip2. An empty ref leaves it untagged.
func (s *Store) Import(ctx context.Context, r io.Reader, ref string, opt ImportOptions) (*Image, error) {
	name, err := optionalName(ref)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	cfg := newImportConfig(opt)
	if err := ApplyChanges(&cfg.Config, opt.Changes); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	t, err := s.begin("import")
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer t.end()
	diffID, blob, err := t.importLayer(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	cfg.RootFS.DiffIDs = []digest.Digest{diffID}
	img, err := t.publishImage(cfg, []ocispec.Descriptor{blob}, name, origin{})
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	return img, nil
}

// ImportDir makes a one-layer image of a directory as it is on disk.
func (s *Store) ImportDir(ctx context.Context, dir, ref string, opt ImportOptions) (*Image, error) {
	if opt.Source == "" {
		opt.Source = dir
	}
	if st, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("import: %w", err)
	} else if !st.IsDir() {
		return nil, fmt.Errorf("import: %s is not a directory", dir)
	}
	r, w := io.Pipe()
	go func() {
		_, err := writeLayer(ctx, w, dirChanges(dir, s.root))
		_ = w.CloseWithError(err)
	}()
	// Closing ends the goroutine when the import fails first.
	defer r.Close()
	return s.Import(ctx, r, ref, opt)
}

// importLayer hashes, stores and unpacks an archive in one pass.
func (t *session) importLayer(ctx context.Context, r io.Reader) (digest.Digest, ocispec.Descriptor, error) {
	stream, err := t.newLayerStream(ctx, r, true)
	if err != nil {
		return "", ocispec.Descriptor{}, err
	}
	defer stream.abandon()
	dir := t.newPath("layer")
	result, err := extract(ctx, stream, dir, nil)
	if err != nil {
		return "", ocispec.Descriptor{}, err
	}
	if holdsImages(dir) {
		return "", ocispec.Descriptor{}, errors.New("this is an archive of images, not of a root filesystem: bring it with \"mica load\"")
	}
	diffID, blob, err := stream.finish()
	if err != nil {
		return "", ocispec.Descriptor{}, err
	}
	if err := t.point("unpacked"); err != nil {
		return "", ocispec.Descriptor{}, err
	}
	t.stageLayer(Layer{DiffID: diffID, ChainID: diffID}, dir, result)
	return diffID, blob, nil
}

// holdsImages tells whether a tree is what `save` writes, by what lies at its top.
func holdsImages(dir string) bool {
	has := func(name string) bool { return exists(filepath.Join(dir, name)) }
	return (has("oci-layout") && has("index.json") || has("manifest.json") && has("repositories")) && !has("usr") && !has("bin") && !has("etc")
}

func newImportConfig(opt ImportOptions) *ImageConfig {
	now := time.Now().UTC()
	cfg := &ImageConfig{
		Created: &now, OS: opt.OS, Architecture: opt.Architecture, Variant: opt.Variant,
		RootFS: RootFS{Type: "layers"},
	}
	if cfg.OS == "" {
		cfg.OS = "linux"
	}
	if cfg.Architecture == "" {
		cfg.Architecture = runtime.GOARCH
	}
	comment := opt.Message
	if comment == "" {
		source := opt.Source
		if source == "" {
			source = "-"
		}
		comment = "Imported from " + source
	}
	cfg.History = []HistoryEntry{{Created: &now, Comment: comment}}
	return cfg
}

// optionalName is NormalizeName that leaves the empty name empty.
func optionalName(ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	return NormalizeName(ref)
}

// origin is what this store alone knows of how an image came about.
type origin struct {
	parent   *Image // that it was committed from; nil: none
	overHost bool   // it was committed over the root of the machine
	step     string // of a build, which it is the result of; empty: none
}

// publishImage stages the documents of an image whose layers are staged or stored
// already, publishes all, and returns the image as it is then. parent may be nil.
func (t *session) publishImage(cfg *ImageConfig, layers []ocispec.Descriptor, name string, from origin) (*Image, error) {
	desc, err := t.stageImage(cfg, layers)
	if err != nil {
		return nil, err
	}
	desc.Annotations = make(map[string]string)
	if from.parent != nil {
		desc.Annotations[parentAnnotation] = from.parent.ID
	}
	if from.overHost {
		desc.Annotations[overHostAnnotation] = "yes"
	}
	if from.step != "" {
		desc.Annotations[stepAnnotation] = from.step
	}
	err = t.publish(func(ix *index) error {
		if from.parent != nil && !ix.has(from.parent.Manifest) {
			return fmt.Errorf("%w: %s was removed meanwhile", ErrNotFound, from.parent.ID)
		}
		ix.add(desc, name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return t.s.reload(desc)
}

// reload looks up an image that was just published. Another process may have
// taken its name, or even removed it, since.
func (s *Store) reload(desc ocispec.Descriptor) (*Image, error) {
	ix, unlock, err := s.sharedIndex()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if !ix.has(desc.Digest) {
		return nil, fmt.Errorf("%w: manifest %s was removed meanwhile", ErrNotFound, desc.Digest)
	}
	return s.image(ix, desc)
}

// stageImage stages a configuration and its manifest.
func (t *session) stageImage(cfg *ImageConfig, layers []ocispec.Descriptor) (ocispec.Descriptor, error) {
	data, err := json.Marshal(cfg)
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write configuration: %w", err)
	}
	config, err := t.stageDocument(data, ocispec.MediaTypeImageConfig)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return t.stageManifest(config, layers)
}

// stageManifest stages the manifest of a configuration and layers.
func (t *session) stageManifest(config ocispec.Descriptor, layers []ocispec.Descriptor) (ocispec.Descriptor, error) {
	data, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    config,
		Layers:    layers,
	})
	if err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("write manifest: %w", err)
	}
	return t.stageDocument(data, ocispec.MediaTypeImageManifest)
}
