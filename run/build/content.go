package build

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"slices"
)

// contentOf is a hash of what items are, without times.
func contentOf(ctx context.Context, items []item, l *look) (string, error) {
	sum := sha256.New()
	enc := json.NewEncoder(sum)
	change, err := l.changer()
	if err != nil {
		return "", err
	}
	for _, it := range items {
		if err := enc.Encode([]any{it.name, it.isDir, it.above}); err != nil {
			return "", err
		}
		err := it.pack(ctx, func(h *tar.Header, content io.Reader) error {
			want, err := change(&it, h)
			if !want || err != nil || h.Name == "." && h.Typeflag == tar.TypeDir {
				return err
			}
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
			err = enc.Encode([]any{h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Linkname, h.Devmajor, h.Devminor, size, attributes})
			if err != nil || size == 0 {
				return err
			}
			_, err = io.Copy(sum, content)
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// hash is a hash of a word, in hexadecimal digits.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
