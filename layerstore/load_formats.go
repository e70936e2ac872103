package layerstore

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Names in images that the OCI specification does not have, or has no more.
const (
	dockerManifest          = "manifest.json"
	dockerMediaManifest     = "application/vnd.docker.distribution.manifest.v2+json"
	dockerMediaManifestList = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerMediaConfig       = "application/vnd.docker.container.image.v1+json"
	dockerMediaLayer        = "application/vnd.docker.image.rootfs." // begins those of layers
	ociMediaForeignLayer    = "application/vnd.oci.image.layer.nondistributable."
	dockerMediaSchema1      = "application/vnd.docker.distribution.manifest.v1+json"
	dockerMediaSchema1JWS   = "application/vnd.docker.distribution.manifest.v1+prettyjws"

	// containerdName is the full name of an image in the archives of Docker
	// and containerd, where the OCI annotation holds the tag alone.
	containerdName = "io.containerd.image.name"
	// attestationType marks what is no image but says something about one.
	attestationType = "vnd.docker.reference.type"
)

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
	if !isConfigType(m.Config.MediaType) {
		return fmt.Errorf("manifest %s is that of %w but of %s", desc.Digest, ErrNoImage, m.Config.MediaType)
	}
	for _, d := range m.Layers {
		if !isLayerType(d.MediaType) {
			return fmt.Errorf("manifest %s is that of %w: it has a layer of %s", desc.Digest, ErrNoImage, d.MediaType)
		}
	}
	cfgData, err := l.blobs.document(m.Config)
	if err != nil {
		return err
	}
	cfg, err := parseConfig(cfgData, m)
	if err != nil {
		return err
	}
	if err := l.checkPlatform(cfg); err != nil {
		return err
	}
	l.blobs.expect(imageLayers(m, cfg))
	for _, d := range []ocispec.Descriptor{desc, m.Config} {
		if err := l.blobs.stage(d); err != nil {
			return err
		}
	}
	return l.add(ctx, desc, m, cfg, names, l.blobs.stage)
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
	return l.add(ctx, desc, m, cfg, names, nil)
}
