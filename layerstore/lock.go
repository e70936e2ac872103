package layerstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mica/internal/failpoint"
	"mica/internal/sys"
)

func (s *Store) lockShared() (unlock func(), err error)    { return s.lock(unix.LOCK_SH) }
func (s *Store) lockExclusive() (unlock func(), err error) { return s.lock(unix.LOCK_EX) }

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

// writeFileAtomic replaces path by a synced file with this content. The
// temporary name is fixed: callers hold the store's exclusive lock, or own the directory.
func writeFileAtomic(path string, data []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = failpoint.Hit("atomic.rename")
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in dir last.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
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
