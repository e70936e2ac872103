// Package atomicfile replaces whole files: whoever reads one sees the old content or the new.
package atomicfile

import (
	"errors"
	"os"
	"path/filepath"

	"mica/internal/failpoint"
)

// Suffix is what the name of a file in the making has more than its own. It is the same each time: those who replace
// one file keep others from doing so meanwhile.
const Suffix = ".tmp"

// Replace puts a file with this content, which only its owner can read, in the place of path. After a failure of the
// machine it may be empty, or the old one.
func Replace(path string, data []byte) error { return replace(path, data, false) }

// ReplaceDurably is Replace for what a failure of the machine must not take back.
func ReplaceDurably(path string, data []byte) error {
	if err := replace(path, data, true); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

func replace(path string, data []byte, sync bool) error {
	tmp := path + Suffix
	err := write(tmp, data, sync)
	if err == nil {
		err = failpoint.Hit("atomic.rename")
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
	}
	return err
}

func write(path string, data []byte, sync bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// SyncDir makes the names in a directory last.
func SyncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
