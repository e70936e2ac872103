package cow

import (
	"io"
	"time"

	"mica/internal/ondisk"
)

// ChangeKind says what a Change did to its path.
type ChangeKind uint8

// The kinds of change, as `diff` shows them.
const (
	Added    ChangeKind = iota // no lower layer has the path
	Modified                   // a lower layer has the path, with other content or metadata
	Deleted                    // a lower layer has the path, the merged tree has not
)

// String is the one-letter form that `diff` prints.
func (k ChangeKind) String() string {
	return [...]string{"A", "C", "D"}[k]
}

// Change is one difference between a union and its lower layers, in the terms
// of the image: owners, types and attribute names are those that the image
// sees, never those of the disk.
type Change struct {
	Path   string // relative and slash separated, without a leading slash; "." is the root
	Kind   ChangeKind
	Opaque bool // an added directory that hides what lower layers have at its path
	Meta   ondisk.Meta
	Size   int64 // bytes, of regular files
	Mtime  time.Time
	Target string // of a symlink

	// LinkTo is the path of an earlier change of the same stream of which
	// this one is a further hard link; such a change carries no content.
	LinkTo string

	Xattrs map[string][]byte

	// Open gives the content of a regular file, nil for everything else.
	Open func() (io.ReadCloser, error)
}
