package build

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"io"
	"maps"
	"path"
	"slices"
)

// summer makes a hash of what items are, without times and new owners.
type summer struct {
	sum hash.Hash
	enc *json.Encoder
}

func newSummer() *summer {
	sum := sha256.New()
	return &summer{sum, json.NewEncoder(sum)}
}

func (s *summer) item(it *item) error { return s.enc.Encode([]any{it.name, it.isDir, it.above}) }

// entry takes an entry, and gives its content to whoever uses it; all of it must be read then.
func (s *summer) entry(h *tar.Header, content io.Reader) (io.Reader, error) {
	var attributes [][2]string
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		if key != "mtime" && key != "atime" && key != "ctime" {
			attributes = append(attributes, [2]string{key, h.PAXRecords[key]})
		}
	}
	size := h.Size
	if h.Typeflag != tar.TypeReg {
		size = 0
	}
	err := s.enc.Encode([]any{h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Linkname, h.Devmajor, h.Devminor, size, attributes})
	if size == 0 || content == nil {
		return content, err
	}
	return io.TeeReader(content, s.sum), err
}

func (s *summer) String() string { return hex.EncodeToString(s.sum.Sum(nil)) }

// contentOf is the hash of items that are not written anywhere. It notes which directories archives imply.
func contentOf(ctx context.Context, items []item, l *look) (string, error) {
	s := newSummer()
	for i := range items {
		it := &items[i]
		if err := s.item(it); err != nil {
			return "", err
		}
		seen := map[string]bool{".": true}
		err := l.pack(ctx, it, func(h *tar.Header, content io.Reader) error {
			if it.archive {
				it.noteImplied(h, seen)
			}
			content, err := s.entry(h, content)
			if err != nil || content == nil {
				return err
			}
			_, err = io.Copy(io.Discard, content)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return s.String(), nil
}

// noteImplied takes an entry of an archive; seen has the ways of those before.
func (it *item) noteImplied(h *tar.Header, seen map[string]bool) {
	for dir := path.Dir(h.Name); !seen[dir]; dir = path.Dir(dir) {
		seen[dir] = true
		it.implied = append(it.implied, dir)
	}
	seen[h.Name] = seen[h.Name] || isWay(h)
}

// isWay tells whether there may be something below an entry: a directory, or a symlink to one.
func isWay(h *tar.Header) bool { return h.Typeflag == tar.TypeDir || h.Typeflag == tar.TypeSymlink }

// hashOf is a hash of a text, in hexadecimal digits.
func hashOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
