package layerstore

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxIndexDepth bounds how deep lists of manifests may lie in each other.
const maxIndexDepth = 4

// architectures are other names of architectures.
var architectures = map[string]ocispec.Platform{
	"x86_64":  {Architecture: "amd64"},
	"x86-64":  {Architecture: "amd64"},
	"aarch64": {Architecture: "arm64"},
	"i386":    {Architecture: "386"},
	"armhf":   {Architecture: "arm", Variant: "v7"},
	"armel":   {Architecture: "arm", Variant: "v6"},
}

// ParsePlatform reads [OS/]ARCH[/VARIANT], in the ways that Docker does. Without an OS it is linux.
func ParsePlatform(s string) (ocispec.Platform, error) {
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) == 1 && parts[0] != "linux" {
		parts = []string{"linux", parts[0]}
	}
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return ocispec.Platform{}, fmt.Errorf("platform %q: want OS/ARCH[/VARIANT]", s)
	}
	p, ok := architectures[parts[1]]
	if !ok {
		p.Architecture = parts[1]
	}
	p.OS = parts[0]
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

func platformName(p ocispec.Platform) string {
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}

// maxPlatform is how long the name of a platform can be that is worth keeping.
const maxPlatform = 64

// bounded is what of an entry's platform goes into the index of the store, which is read at each command.
func bounded(p *ocispec.Platform) *ocispec.Platform {
	if p == nil || len(platformName(*p)) > maxPlatform {
		return nil
	}
	return &ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant}
}

// isConfigType tells whether a media type is that of the configuration of an image.
func isConfigType(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == dockerMediaConfig || mediaType == ""
}

// isManifestType tells whether a media type is that of a manifest or a list of them.
func isManifestType(mediaType string) bool {
	return slices.Contains([]string{ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, dockerMediaManifest, dockerMediaManifestList}, mediaType)
}

// wanted is the platform whose image is taken out of a list.
func (l *loader) wanted() ocispec.Platform {
	if l.platform.OS == "" {
		return ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	}
	return l.platform
}

// selectManifest goes from an entry to the manifest of one image: through lists to
// the one for the platform that is wanted.
func (l *loader) selectManifest(desc ocispec.Descriptor, depth int) (ocispec.Descriptor, []byte, error) {
	if err := validDigest(desc.Digest); err != nil {
		return desc, nil, err
	}
	data, err := l.blobs.document(desc)
	if err != nil {
		return desc, nil, err
	}
	switch desc.MediaType {
	case ocispec.MediaTypeImageManifest, dockerMediaManifest:
		return desc, data, nil
	case ocispec.MediaTypeImageIndex, dockerMediaManifestList:
	case dockerMediaSchema1, dockerMediaSchema1JWS:
		return desc, nil, fmt.Errorf("manifest %s is of Docker's schema 1, which nothing writes any more: the image must be pushed anew by a newer program", desc.Digest)
	default:
		return desc, nil, fmt.Errorf("%s is %w: its media type is %q", desc.Digest, ErrNoImage, desc.MediaType)
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
		if s := l.platformScore(d); s > score {
			best, score = i, s
		}
	}
	if best < 0 {
		return desc, nil, l.noPlatform(desc, &ix)
	}
	return l.selectManifest(ix.Manifests[best], depth+1)
}

// platformScore rates an entry of a list; 0 is unusable.
func (l *loader) platformScore(d ocispec.Descriptor) int {
	if validDigest(d.Digest) != nil || d.Annotations[attestationType] != "" || !l.blobs.has(d.Digest) {
		return 0
	}
	if d.Platform == nil {
		return 1
	}
	want := l.wanted()
	switch {
	case d.Platform.OS != want.OS || d.Platform.Architecture != want.Architecture:
		return 0
	case d.Platform.Variant == want.Variant:
		return 4
	case d.Platform.Variant == usualVariant(want.Architecture) && want.Variant == "":
		return 3 // the same under its full name
	case want.Variant == "" || d.Platform.Variant == "":
		return 2
	}
	return 0
}

// usualVariant is the variant that an architecture is where none is named.
func usualVariant(arch string) string {
	switch arch {
	case "amd64":
		return "v1"
	case "arm64":
		return "v8"
	case "arm":
		return "v7"
	}
	return ""
}

// noPlatform says which platforms a list has instead.
func (l *loader) noPlatform(desc ocispec.Descriptor, ix *ocispec.Index) error {
	var have []string
	for _, d := range ix.Manifests {
		if d.Platform == nil || d.Annotations[attestationType] != "" {
			continue
		}
		if name := platformName(*d.Platform); !slices.Contains(have, name) {
			have = append(have, name)
		}
	}
	err := fmt.Errorf("index %s has no image for %s", desc.Digest, platformName(l.wanted()))
	if len(have) > 0 {
		err = fmt.Errorf("%w; it has %s", err, strings.Join(have, ", "))
	}
	return err
}

// checkPlatform refuses an image for another platform than the one that was asked for by name.
func (l *loader) checkPlatform(cfg *ImageConfig) error {
	if l.platform.OS == "" {
		return nil
	}
	have := ocispec.Platform{OS: cfg.OS, Architecture: cfg.Architecture, Variant: cfg.Variant}
	if have.OS != l.platform.OS || have.Architecture != l.platform.Architecture ||
		l.platform.Variant != "" && have.Variant != "" && have.Variant != l.platform.Variant {
		return errors.New("the image is for " + platformName(have) + ", not for " + platformName(l.platform))
	}
	return nil
}

// isLayerType tells whether a media type is that of a layer of an image. None at all counts as one: it is told by its content.
func isLayerType(mediaType string) bool {
	for _, prefix := range []string{ocispec.MediaTypeImageLayer, ociMediaForeignLayer, dockerMediaLayer} {
		if strings.HasPrefix(mediaType, prefix) {
			return true
		}
	}
	return mediaType == ""
}
