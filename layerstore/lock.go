package layerstore

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

func (s *Store) lockShared() (unlock func(), err error)    { return s.lock(unix.LOCK_SH) }
func (s *Store) lockExclusive() (unlock func(), err error) { return s.lock(unix.LOCK_EX) }

// tryLockExclusive is lockExclusive that fails where it would have to wait.
func (s *Store) tryLockExclusive() (unlock func(), err error) {
	return s.lock(unix.LOCK_EX | unix.LOCK_NB)
}

// lockFunc is one of those.
type lockFunc func() (unlock func(), err error)

// Hold keeps the image of that ID from being removed until release is called; [ErrNotFound] says that it is gone.
func (s *Store) Hold(id string) (release func(), err error) {
	release, err = s.lockShared()
	if err != nil {
		return nil, err
	}
	if !exists(s.path("blobs", "sha256", digest.Digest(id).Encoded())) {
		release()
		return nil, fmt.Errorf("%w: %s", ErrNotFound, id)
	}
	return release, nil
}

// lock takes the store's lock. Each call opens the file anew, since a flock
// belongs to the open file: two goroutines must not share one. A store on a
// read-only filesystem can be read.
func (s *Store) lock(how int) (unlock func(), err error) {
	f, err := os.OpenFile(s.path("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, unix.EROFS) && how == unix.LOCK_SH {
		f, err = os.Open(s.path("lock"))
		if errors.Is(err, os.ErrNotExist) {
			return func() {}, nil // nobody has changed the store, and nobody can
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock store: %w", err)
	}
	if err := flock(f, how); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock store: %w", err)
	}
	return func() { _ = f.Close() }, nil
}

func flock(f *os.File, how int) error {
	return sys.Retry(func() error { return unix.Flock(int(f.Fd()), how) })
}

// syncFilesystem makes everything on the filesystem of dir last: for a tree of
// many files much cheaper than syncing each.
func syncFilesystem(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
