package layerstore

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

var hexID = regexp.MustCompile(`^[0-9a-f]{1,64}$`)

// NormalizeName gives NAME:TAG in Docker's short form ("debian:latest"), with
// the default tag "latest".
func NormalizeName(ref string) (string, error) {
	named, err := parseName(ref)
	if err != nil {
		return "", err
	}
	if _, ok := named.(reference.Digested); ok {
		return "", fmt.Errorf("name %q: a digest cannot be given to an image, only NAME[:TAG]", ref)
	}
	return reference.FamiliarString(reference.TagNameOnly(named)), nil
}

func parseName(ref string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil, fmt.Errorf("name %q: %w", ref, err)
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
	if hex, ok := strings.CutPrefix(ref, "sha256:"); ok && hexID.MatchString(hex) {
		q.prefix = hex
		return q, nil
	}
	if hexID.MatchString(ref) {
		q.prefix = ref
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		if q.prefix != "" {
			return q, nil // 64 hex digits are no name
		}
		return q, fmt.Errorf("name %q: %w", ref, err)
	}
	if d, ok := named.(reference.Digested); ok {
		q.repo, q.digest = reference.FamiliarName(named), d.Digest()
		return q, nil
	}
	q.name = reference.FamiliarString(reference.TagNameOnly(named))
	return q, nil
}

// repository is the NAME of NAME:TAG.
func repository(name string) string {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i]
	}
	return name
}
