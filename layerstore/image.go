package layerstore

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mica/cow"
)

// Resolve finds an image by NAME[:TAG], NAME@DIGEST, ID or unique beginning
// of an ID. A name goes before an ID. The error is [ErrNotFound] or
// [ErrAmbiguous] where these are the reason.
func (s *Store) Resolve(ref string) (*Image, error) {
	ix, unlock, err := s.sharedIndex()
	if err != nil {
		return nil, err
	}
	defer unlock()
	return s.resolve(ix, ref)
}

// resolve is Resolve in an index that the caller has read under a lock.
func (s *Store) resolve(ix *index, ref string) (*Image, error) {
	q, err := parseQuery(ref)
	if err != nil {
		return nil, err
	}
	if q.name != "" {
		if d, ok := ix.byName(q.name); ok {
			return s.image(ix, d)
		}
	}
	if q.digest != "" {
		for _, d := range ix.Manifests {
			if d.Digest == q.digest && repository(refName(d)) == q.repo || slices.Contains(repoDigests(d), q.repo+"@"+q.digest.String()) {
				return s.image(ix, d)
			}
		}
	}
	if q.prefix != "" {
		return s.resolveID(ix, q)
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, ref)
}

func (s *Store) resolveID(ix *index, q query) (*Image, error) {
	var found *ocispec.Descriptor
	var id digest.Digest
	for _, d := range ix.Manifests {
		m, err := s.manifest(ix, d.Digest)
		if err != nil {
			continue // one broken image must not hide the others
		}
		if !strings.HasPrefix(m.Config.Digest.Encoded(), q.prefix) {
			continue
		}
		if found != nil && id != m.Config.Digest {
			return nil, fmt.Errorf("%w: %s", ErrAmbiguous, q.text)
		}
		if found == nil {
			found, id = &d, m.Config.Digest
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, q.text)
	}
	return s.image(ix, *found)
}

// Built finds the image that a step of a build has made here; the error is [ErrNotFound] if there is none any more.
func (s *Store) Built(step string) (*Image, error) {
	ix, unlock, err := s.sharedIndex()
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, d := range slices.Backward(ix.Manifests) {
		if d.Annotations[stepAnnotation] == step {
			return s.image(ix, d)
		}
	}
	return nil, fmt.Errorf("%w of the step %s", ErrNotFound, step)
}

// Images lists all images, newest first. Images that cannot be read are left
// out; the error, which joins the reasons, comes beside the list then.
func (s *Store) Images() ([]*Image, error) {
	ix, unlock, err := s.sharedIndex()
	if err != nil {
		return nil, err
	}
	defer unlock()
	images, broken := s.images(ix)
	return images, errors.Join(broken...)
}

// images makes one Image for every ID in the index.
func (s *Store) images(ix *index) (images []*Image, broken []error) {
	seen := make(map[digest.Digest]bool)
	ids := make(map[string]bool)
	for _, d := range ix.Manifests {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		img, err := s.image(ix, d)
		if err != nil {
			broken = append(broken, err)
			continue
		}
		if !ids[img.ID] {
			ids[img.ID] = true
			images = append(images, img)
		}
	}
	slices.SortStableFunc(images, func(a, b *Image) int { return b.Created.Compare(a.Created) })
	return images, broken
}

// image reads the image of an entry of ix. The caller holds a lock.
func (s *Store) image(ix *index, d ocispec.Descriptor) (*Image, error) {
	m, err := s.manifest(ix, d.Digest)
	if err != nil {
		return nil, imageError(d, err)
	}
	cfg, err := s.config(m)
	if err != nil {
		return nil, imageError(d, err)
	}
	img := &Image{ID: m.Config.Digest.String(), Manifest: d.Digest, Config: cfg}
	if cfg.Created != nil {
		img.Created = *cfg.Created
	}
	for _, layer := range imageLayers(m, cfg) {
		if layer.Size, err = s.layerSize(layer); err != nil {
			return nil, imageError(d, err)
		}
		img.Size += layer.Size
		img.Layers = append(img.Layers, layer)
	}
	img.Names = s.names(ix, m.Config.Digest, d.Digest)
	img.addDigests(s.entries(ix, m.Config.Digest, d.Digest))
	for _, e := range ix.Manifests {
		if e.Digest == d.Digest {
			img.OverHost = img.OverHost || e.Annotations[overHostAnnotation] != ""
			img.Step = cmp.Or(img.Step, e.Annotations[stepAnnotation])
		}
	}
	return img, nil
}

// imageError says which image an error is about.
func imageError(d ocispec.Descriptor, err error) error {
	if name := refName(d); name != "" {
		return fmt.Errorf("image %s: %w", name, err)
	}
	return fmt.Errorf("image with manifest %s: %w", d.Digest, err)
}

// names lists the names of all entries with this configuration; manifest is one of them.
func (s *Store) names(ix *index, config, manifest digest.Digest) []string {
	var names []string
	for _, d := range s.entries(ix, config, manifest) {
		if name := refName(d); name != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// entries lists the entries with this configuration; manifest is one of them.
func (s *Store) entries(ix *index, config, manifest digest.Digest) []ocispec.Descriptor {
	var list []ocispec.Descriptor
	for _, d := range ix.Manifests {
		if d.Digest != manifest {
			m, err := s.manifest(ix, d.Digest)
			if err != nil || m.Config.Digest != config {
				continue
			}
		}
		list = append(list, d)
	}
	return list
}

// manifest reads an image's manifest, once for each reading of the index.
func (s *Store) manifest(ix *index, d digest.Digest) (*ocispec.Manifest, error) {
	if m, ok := ix.manifests[d]; ok {
		return m, nil
	}
	data, err := s.readDocument(d)
	if err != nil {
		return nil, err
	}
	m := new(ocispec.Manifest)
	if err := parseDocument(data, d, m); err != nil {
		return nil, err
	}
	if err := checkManifest(m, d); err != nil {
		return nil, err
	}
	ix.manifests[d] = m
	return m, nil
}

// checkManifest refuses a manifest that cannot be an image's.
func checkManifest(m *ocispec.Manifest, d digest.Digest) error {
	if m.Config.Digest == "" {
		return fmt.Errorf("manifest %s names no configuration", d)
	}
	for _, desc := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
		if err := validDigest(desc.Digest); err != nil {
			return fmt.Errorf("manifest %s: %w", d, err)
		}
	}
	return nil
}

// maxLayers is how many layers an image may have, so that a container has room for those of its own below them.
const maxLayers = cow.MaxLayers - 10

// checkLayerCount refuses an image that could not be used, before anything is made of it.
func checkLayerCount(n int) error {
	if n > maxLayers {
		return fmt.Errorf("the image has %d layers; at most %d are possible", n, maxLayers)
	}
	return nil
}

// config reads the configuration of a manifest.
func (s *Store) config(m *ocispec.Manifest) (*ImageConfig, error) {
	data, err := s.readDocument(m.Config.Digest)
	if err != nil {
		return nil, err
	}
	return parseConfig(data, m)
}

// parseConfig decodes a configuration and holds it against its manifest.
func parseConfig(data []byte, m *ocispec.Manifest) (*ImageConfig, error) {
	cfg := new(ImageConfig)
	if err := parseDocument(data, m.Config.Digest, cfg); err != nil {
		return nil, err
	}
	if len(cfg.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("configuration %s lists %d layers, its manifest %d",
			m.Config.Digest, len(cfg.RootFS.DiffIDs), len(m.Layers))
	}
	for _, d := range cfg.RootFS.DiffIDs {
		if err := validDigest(d); err != nil {
			return nil, fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
		}
	}
	return cfg, nil
}

// layerSize gives the bytes of the files in a layer, from what unpacking
// noted, or else from the archive.
func (s *Store) layerSize(l Layer) (int64, error) {
	info, err := s.readLayerInfo(l.DiffID.Encoded())
	if err == nil {
		return info.Size, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	f, err := os.Open(s.blobPath(l.Blob))
	if err != nil {
		return 0, fmt.Errorf("read layer %s: %w", l.DiffID, err)
	}
	defer f.Close()
	size, err := archiveSize(f)
	if err != nil {
		return 0, layerError(l.DiffID, err)
	}
	return size, nil
}

func layerError(diffID digest.Digest, err error) error {
	return fmt.Errorf("layer %s: %w", diffID, err)
}

// layerChain computes the chainID of every layer, lowest first.
func layerChain(cfg *ImageConfig) []digest.Digest {
	return identity.ChainIDs(slices.Clone(cfg.RootFS.DiffIDs)) // which works in place
}

// imageLayers lists the layers of an image, lowest first, without their sizes.
func imageLayers(m *ocispec.Manifest, cfg *ImageConfig) []Layer {
	var list []Layer
	chain := layerChain(cfg)
	for i, d := range m.Layers {
		list = append(list, Layer{
			DiffID: cfg.RootFS.DiffIDs[i], ChainID: chain[i],
			Blob: d.Digest, MediaType: d.MediaType, BlobSize: d.Size,
		})
	}
	return list
}

// layerNames lists the names in layers/ that an image's layers may have.
func layerNames(cfg *ImageConfig) []string {
	var list []string
	for _, d := range cfg.RootFS.DiffIDs {
		list = append(list, d.Encoded())
	}
	for _, d := range layerChain(cfg) {
		list = append(list, d.Encoded())
	}
	return list
}
