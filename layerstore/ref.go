package layerstore

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"mica/internal/imageref"
)

// NormalizeName gives NAME:TAG in Docker's short form ("debian:latest"), with
// the default tag "latest".
func NormalizeName(ref string) (string, error) {
	named, err := parseName(ref)
	if err != nil {
		return "", err
	}
	if named.Digest != "" {
		return "", fmt.Errorf("name %q: a digest cannot be given to an image, only NAME[:TAG]", ref)
	}
	if name := named.Tagged(); name != hostName {
		return name, nil
	}
	return "", fmt.Errorf("name %q: this machine's own root is called that", ref)
}

// hostName is the name of what is no image in a store: nothing else may pass for it.
const hostName = "host:latest"

func parseName(ref string) (imageref.Ref, error) {
	named, err := imageref.Parse(ref)
	if err != nil {
		return imageref.Ref{}, fmt.Errorf("name %q: %w", ref, err)
	}
	return named, nil
}

// query is what a user wrote to find an image.
type query struct {
	text   string
	name   string        // NAME:TAG, or empty
	repo   string        // NAME of NAME@DIGEST
	digest digest.Digest // of NAME@DIGEST
	prefix string        // hex digits that begin an ID, or empty
}

func parseQuery(ref string) (query, error) {
	q := query{text: ref}
	if hex, ok := strings.CutPrefix(ref, "sha256:"); ok && imageref.CanBeID(hex) {
		q.prefix = hex
		return q, nil
	}
	if imageref.CanBeID(ref) {
		q.prefix = ref
	}
	named, err := imageref.Parse(ref)
	if err != nil {
		if q.prefix != "" {
			return q, nil // 64 hex digits are no name
		}
		return q, fmt.Errorf("name %q: %w", ref, err)
	}
	if named.Digest != "" {
		q.repo, q.digest = named.Name, digest.Digest(named.Digest)
		return q, nil
	}
	q.name = named.Tagged()
	return q, nil
}

// repository is the NAME of NAME:TAG.
func repository(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}
