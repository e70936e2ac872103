package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Names of what is no volume yet, or no more.
const (
	stagePrefix = ".new-"
	gonePrefix  = ".gone-"
)

// Tidy clears away what processes that were killed have left: volumes that were not quite made, or not quite removed. It is
// cheap where there is nothing to do.
func (d *Dir) Tidy(discard func(dir string) error) error {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(d.path, e.Name())
		switch {
		case strings.HasPrefix(e.Name(), gonePrefix):
			if claim, err := claimTree(path); err == nil {
				_ = discard(path) // what cannot be removed now is tried again
				claim.Close()
			}
		case strings.HasPrefix(e.Name(), stagePrefix):
			// One that is young is being made.
			if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > time.Minute {
				_ = os.RemoveAll(path)
			}
		}
	}
	return nil
}

// claimTree says that the caller removes a tree: nobody else, who finds it, does it too, as long as the caller lives.
func claimTree(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
