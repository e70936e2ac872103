package sys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// RemoveAll is [os.RemoveAll] for trees with directories that their owner may not list or write. Of all calls here it alone
// takes any path, and gives errors that say which.
func RemoveAll(path string) error {
	err := os.RemoveAll(path)
	if !errors.Is(err, os.ErrPermission) {
		return err
	}
	openUp(unix.AT_FDCWD, path)
	return os.RemoveAll(path)
}

// openUp gives the owner all rights to a directory and to those below it, as far as that is possible.
func openUp(dirfd int, name string) {
	fd, err := Open(dirfd, name, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return
	}
	defer Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Mode&0o700 != 0o700 {
		_ = unix.Chmod(FdPath(fd), st.Mode&0o7777|0o700)
	}
	list, err := OpenDir(fd, ".")
	if err != nil {
		return
	}
	defer Close(list)
	var below []string
	_ = List(list, func(name []byte, typ uint8, _ uint64) error {
		if typ == unix.DT_DIR || typ == unix.DT_UNKNOWN {
			below = append(below, string(name))
		}
		return nil
	})
	for _, name := range below {
		openUp(fd, name)
	}
}
