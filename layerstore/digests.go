package layerstore

import (
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// digestsAnnotation, on every entry of an image in index.json, lists what
// registries know it by, first what the entry's own name led to: NAME@DIGEST, between them blanks.
// The digest is that of the manifest, or of the list that it was chosen from.
const digestsAnnotation = "mica.digests"

func repoDigests(d ocispec.Descriptor) []string {
	return strings.Fields(d.Annotations[digestsAnnotation])
}

// note adds NAME@DIGEST, which a name, if it is not empty, leads to, to what a manifest is known by.
func (ix *index) note(manifest digest.Digest, name, ref string) {
	for i, d := range ix.Manifests {
		list := repoDigests(d)
		switch {
		case d.Digest != manifest:
			continue
		case refName(d) == name:
			list = slices.Insert(slices.DeleteFunc(list, func(r string) bool { return r == ref }), 0, ref)
		case !slices.Contains(list, ref):
			list = append(list, ref)
		}
		ix.Manifests[i] = withDigests(d, list)
	}
}

// forget takes away what a repository knows an image by.
func (s *Store) forget(ix *index, img *Image, repo string) {
	for i, d := range ix.Manifests {
		if m, err := s.manifest(ix, d.Digest); err == nil && m.Config.Digest == digest.Digest(img.ID) {
			list := slices.DeleteFunc(repoDigests(d), func(ref string) bool { return strings.HasPrefix(ref, repo+"@") })
			ix.Manifests[i] = withDigests(d, list)
		}
	}
}

// digestsOf lists what a manifest is known by.
func (ix *index) digestsOf(manifest digest.Digest) []string {
	for _, d := range ix.Manifests {
		if d.Digest == manifest {
			return repoDigests(d)
		}
	}
	return nil
}

func withDigests(d ocispec.Descriptor, list []string) ocispec.Descriptor {
	d = withName(d, refName(d)) // with annotations of its own
	delete(d.Annotations, digestsAnnotation)
	if len(list) == 0 {
		return withName(d, refName(d)) // without an empty map
	}
	if d.Annotations == nil {
		d.Annotations = make(map[string]string)
	}
	d.Annotations[digestsAnnotation] = strings.Join(list, " ")
	return d
}

// addDigests notes what registries know the image by, from its entries.
func (img *Image) addDigests(entries []ocispec.Descriptor) {
	img.known = make(map[string]digest.Digest)
	for _, d := range entries {
		name := refName(d)
		img.known[name] = d.Digest
		for _, ref := range slices.Backward(repoDigests(d)) {
			if repo, sum, _ := strings.Cut(ref, "@"); repo == repository(name) {
				img.known[name] = digest.Digest(sum)
			}
		}
		for _, ref := range repoDigests(d) {
			if !slices.Contains(img.Digests, ref) {
				img.Digests = append(img.Digests, ref)
			}
		}
	}
}

// RegistryDigest is what the registry of one of the image's names knows it by, or would.
func (img *Image) RegistryDigest(name string) digest.Digest {
	if d, ok := img.known[name]; ok {
		return d
	}
	return img.Manifest
}
