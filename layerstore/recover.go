package layerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// Tidy clears away what dead processes left in the store at root, unless somebody is changing the store just now: what stays is
// for the next one. It is cheap where there is nothing to do.
func Tidy(root string) {
	s := &Store{root: root}
	if entries, err := os.ReadDir(s.path("tmp")); err != nil || len(entries) == 0 {
		return
	}
	_ = s.recover(s.tryLockExclusive)
}

// recover removes the staging directories of dead processes, and what they
// had put in place before their commit. It looks for them under lock.
func (s *Store) recover(lock lockFunc) error {
	dead, err := s.claimDead(lock)
	if errors.Is(err, unix.EROFS) {
		return nil // the next that may write does it
	}
	if err != nil || len(dead) == 0 {
		return err
	}
	t, err := s.begin("recover")
	if err != nil {
		releaseAll(dead)
		return err
	}
	defer t.end()
	unlock, err := s.lockExclusive()
	if err != nil {
		releaseAll(dead)
		return err
	}
	_, err = t.collect()
	unlock()
	if err != nil {
		// A damaged image, which is no reason to shut the store: what is left over stays until that one is gone or whole
		// again.
		releaseAll(dead)
		return nil
	}
	// Only now, so that a crash of the recovery is recovered from as well. What cannot be removed is no reason to shut the
	// store either.
	for _, f := range dead {
		_ = sys.RemoveAll(f.Name())
		_ = f.Close()
	}
	return nil
}

// claimDead locks and returns the staging directories whose process is gone. lock takes the store's lock exclusively.
func (s *Store) claimDead(lock lockFunc) ([]*os.File, error) {
	entries, err := os.ReadDir(s.path("tmp"))
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	// A session that is just being made is not locked yet; it is made under
	// the shared lock, so the exclusive one waits for it.
	unlock, err := lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var dead []*os.File
	for _, e := range entries {
		f, err := claim(filepath.Join(s.path("tmp"), e.Name()))
		if err != nil {
			releaseAll(dead)
			return nil, err
		}
		if f != nil {
			dead = append(dead, f)
		}
	}
	return dead, nil
}

// claim locks one staging directory; nil if its process lives, it is gone, or it is another user's.
func claim(path string) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open leftover: %w", err)
	}
	err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil && exists(path) {
		return f, nil
	}
	_ = f.Close()
	if err != nil && !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock leftover: %w", err)
	}
	return nil, nil
}

func releaseAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
