package layerstore

import (
	"context"
	"errors"
	"io"

	"mica/cow"
)

var errSkeleton = errors.New("layerstore: being written")

type Store struct{ root string }

// DefaultRoot is $XDG_DATA_HOME/mica, or ~/.local/share/mica.
func DefaultRoot() (string, error) { return "", errSkeleton }

// Open opens the store at root, makes it if there is none, and clears away what dead processes left.
func Open(root string) (*Store, error) { return nil, errSkeleton }

// Root is the directory that holds the store.
func (s *Store) Root() string { return s.root }

// ContainersDir is where packages above keep containers.
func (s *Store) ContainersDir() string { return s.root + "/containers" }

// View runs fn under the store's shared lock: no image is removed meanwhile.
func (s *Store) View(fn func() error) error { return errSkeleton }

// Resolve finds an image by NAME[:TAG], NAME@DIGEST, ID or unique ID prefix.
func (s *Store) Resolve(ref string) (*Image, error) { return nil, errSkeleton }

// Images lists all images, newest first.
func (s *Store) Images() ([]*Image, error) { return nil, errSkeleton }

// Import makes a one-layer image of a root filesystem's archive: tar, plain or
// compressed with gzip, zstd or xz. ref may be empty.
func (s *Store) Import(ctx context.Context, r io.Reader, ref string, opt ImportOptions) (*Image, error) {
	return nil, errSkeleton
}

// ImportDir makes a one-layer image of a directory as it is on disk.
func (s *Store) ImportDir(ctx context.Context, dir, ref string, opt ImportOptions) (*Image, error) {
	return nil, errSkeleton
}

// Load reads images from an archive: `docker save`'s or OCI's.
func (s *Store) Load(ctx context.Context, r io.Reader, opt LoadOptions) ([]*Image, error) {
	return nil, errSkeleton
}

// LoadPath is Load of a file, or of a directory that is an OCI image layout.
func (s *Store) LoadPath(ctx context.Context, path string, opt LoadOptions) ([]*Image, error) {
	return nil, errSkeleton
}

// Save writes images as one archive.
func (s *Store) Save(ctx context.Context, w io.Writer, refs []string, format SaveFormat) error {
	return errSkeleton
}

// Tag gives the image src the further name dst.
func (s *Store) Tag(src, dst string) error { return errSkeleton }

// Remove removes a name, and with the last name the image.
func (s *Store) Remove(ref string, opt RemoveOptions) ([]Removed, error) { return nil, errSkeleton }

// Layers gives the directories of the image's layers, topmost first, and unpacks what is missing.
func (s *Store) Layers(ctx context.Context, img *Image) ([]string, error) { return nil, errSkeleton }

// Changes is a stream of changes, as [cow.FS.Changes] gives it.
type Changes func(ctx context.Context, fn func(*cow.Change) error) error

// Commit makes an image of parent, which may be nil, and changes over it.
func (s *Store) Commit(ctx context.Context, parent *Image, changes Changes, opt CommitOptions) (*Image, error) {
	return nil, errSkeleton
}

// History lists the steps of an image, newest first.
func (s *Store) History(img *Image) ([]HistoryRow, error) { return nil, errSkeleton }

// Check verifies the store: every digest, every reference. With repair it removes what is broken or unreferenced.
func (s *Store) Check(ctx context.Context, repair bool) (*Report, error) { return nil, errSkeleton }

// GC removes blobs and layers that no image refers to.
func (s *Store) GC(ctx context.Context) (GCResult, error) { return GCResult{}, errSkeleton }

// NormalizeName gives NAME:TAG in Docker's short form, with the default tag "latest".
func NormalizeName(ref string) (string, error) { return "", errSkeleton }

// ApplyChanges applies instructions to a container configuration.
func ApplyChanges(c *ContainerConfig, changes []string) error { return errSkeleton }
