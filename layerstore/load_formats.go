package layerstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Names in archives of images that the OCI specification does not have.
const (
	dockerManifest          = "manifest.json"
	dockerMediaManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerMediaManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerMediaConfig       = "application/vnd.docker.container.image.v1+json"

	// containerdName is the full name of an image in the archives of Docker
	// and containerd, where the OCI annotation holds the tag alone.
	containerdName = "io.containerd.image.name"
	// attestationType marks what is no image but says something about one.
	attestationType = "vnd.docker.reference.type"
)

// maxIndexDepth bounds how deep lists of manifests may lie in each other.
const maxIndexDepth = 4

// layout reads the images of an OCI image layout.
func (l *loader) layout(ctx context.Context) error {
	data, err := readBundleFile(l.b, ocispec.ImageIndexFile)
	if err != nil {
		return err
	}
	var ix ocispec.Index
	if err := json.Unmarshal(data, &ix); err != nil {
		return fmt.Errorf("parse index.json: %w", err)
	}
	for _, d := range ix.Manifests {
		if d.Annotations[attestationType] != "" {
			continue
		}
		if err := l.layoutImage(ctx, d, nameOfEntry(d)); err != nil {
			return err
		}
	}
	return nil
}

// nameOfEntry reads the name of an image from its entry's annotations.
func nameOfEntry(d ocispec.Descriptor) []string {
	for _, text := range []string{d.Annotations[containerdName], refName(d)} {
		if text == "" {
			continue
		}
		// The annotation may hold any text at all; without a name the image
		// still has its ID.
		if name, err := NormalizeName(text); err == nil {
			return []string{name}
		}
	}
	return nil
}

// layoutImage stages one image of a layout.
func (l *loader) layoutImage(ctx context.Context, desc ocispec.Descriptor, names []string) error {
	desc, data, err := l.selectManifest(desc, 0)
	if err != nil {
		return err
	}
	m := new(ocispec.Manifest)
	if err := parseDocument(data, desc.Digest, m); err != nil {
		return err
	}
	if err := checkManifest(m, desc.Digest); err != nil {
		return err
	}
	switch m.Config.MediaType {
	case ocispec.MediaTypeImageConfig, dockerMediaConfig, "":
	default:
		return fmt.Errorf("manifest %s is not that of an image but of %s", desc.Digest, m.Config.MediaType)
	}
	cfgData, err := l.document(m.Config.Digest)
	if err != nil {
		return err
	}
	cfg, err := parseConfig(cfgData, m)
	if err != nil {
		return err
	}
	for _, d := range append([]ocispec.Descriptor{desc, m.Config}, m.Layers...) {
		staged, err := l.b.stage(blobName(d.Digest), d.Digest)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("blob %s of the image is missing", d.Digest)
		}
		if err != nil {
			return err
		}
		if d.Size != staged.Size {
			return fmt.Errorf("blob %s has %d bytes, its descriptor says %d", d.Digest, staged.Size, d.Size)
		}
	}
	return l.add(ctx, desc, m, cfg, names)
}

// selectManifest goes from an entry to the manifest of one image: through lists to
// the one for this machine's platform.
func (l *loader) selectManifest(desc ocispec.Descriptor, depth int) (ocispec.Descriptor, []byte, error) {
	if err := validDigest(desc.Digest); err != nil {
		return desc, nil, err
	}
	data, err := l.document(desc.Digest)
	if err != nil {
		return desc, nil, err
	}
	switch desc.MediaType {
	case ocispec.MediaTypeImageManifest, dockerMediaManifest:
		return desc, data, nil
	case ocispec.MediaTypeImageIndex, dockerMediaManifestList:
	default:
		return desc, nil, fmt.Errorf("%s is no image: its media type is %q", desc.Digest, desc.MediaType)
	}
	if depth == maxIndexDepth {
		return desc, nil, fmt.Errorf("index %s: lists of images are nested too deep", desc.Digest)
	}
	var ix ocispec.Index
	if err := parseDocument(data, desc.Digest, &ix); err != nil {
		return desc, nil, err
	}
	best, score := -1, 0
	for i, d := range ix.Manifests {
		if s := platformScore(d, l.b.has(blobName(d.Digest))); s > score {
			best, score = i, s
		}
	}
	if best < 0 {
		return desc, nil, fmt.Errorf("index %s has no image for linux/%s", desc.Digest, runtime.GOARCH)
	}
	return l.selectManifest(ix.Manifests[best], depth+1)
}

// platformScore rates an entry of a list for this machine; 0 is unusable.
func platformScore(d ocispec.Descriptor, present bool) int {
	if validDigest(d.Digest) != nil || d.Annotations[attestationType] != "" || !present {
		return 0
	}
	if d.Platform == nil {
		return 1
	}
	if d.Platform.OS != "linux" || d.Platform.Architecture != runtime.GOARCH {
		return 0
	}
	return 2
}

func blobName(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

// document reads a small blob of the bundle and verifies it.
func (l *loader) document(d digest.Digest) ([]byte, error) {
	f, err := l.b.open(blobName(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s is missing", d)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readDocument(f, d)
}

// dockerImage is one entry of Docker's manifest.json.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// dockerArchive reads what `docker save` wrote before it wrote OCI layouts.
func (l *loader) dockerArchive(ctx context.Context) error {
	data, err := readBundleFile(l.b, dockerManifest)
	if err != nil {
		return err
	}
	var images []dockerImage
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&images); err != nil {
		return fmt.Errorf("parse manifest.json: %w", err)
	}
	for _, img := range images {
		if err := l.dockerImage(ctx, img); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) dockerImage(ctx context.Context, img dockerImage) error {
	var names []string
	for _, tag := range img.RepoTags {
		name, err := NormalizeName(tag)
		if err != nil {
			return err
		}
		names = append(names, name)
	}
	data, err := readBundleFile(l.b, img.Config)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if want := hexOf(img.Config); want != "" && want != digest.FromBytes(data) {
		return fmt.Errorf("configuration %s is corrupt: its content has digest %s", img.Config, digest.FromBytes(data))
	}
	config, err := l.t.stageDocument(data, ocispec.MediaTypeImageConfig)
	if err != nil {
		return err
	}
	m := &ocispec.Manifest{Config: config}
	for _, name := range img.Layers {
		mediaType, err := layerMediaType(l.b, name)
		if err != nil {
			return fmt.Errorf("layer: %w", err)
		}
		d, err := l.b.stage(name, "")
		if err != nil {
			return fmt.Errorf("layer: %w", err)
		}
		d.MediaType = mediaType
		m.Layers = append(m.Layers, d)
	}
	cfg, err := parseConfig(data, m)
	if err != nil {
		return err
	}
	desc, err := l.t.stageManifest(config, m.Layers)
	if err != nil {
		return err
	}
	return l.add(ctx, desc, m, cfg, names)
}
