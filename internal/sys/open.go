// Package sys is the one gateway to system calls on backing files. Every
// access is a directory descriptor and one name, or a path that must stay
// beneath the descriptor; no call follows a symlink.
//
// Errors are bare [unix.Errno] values, so that the layers above can compare
// and pass them on without allocation.
package sys

import (
	"errors"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Retry repeats f while a signal interrupts it.
func Retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// Open opens the object called name, one path component, in the directory
// dirfd. A symlink is not followed.
func Open(dirfd int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, mode)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// OpenDir opens the directory called name in dirfd for listing and as an
// anchor for further calls.
func OpenDir(dirfd int, name string) (int, error) {
	return Open(dirfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK, 0)
}

// OpenBeneath opens path, of any number of components and any length, which
// must lie beneath dirfd and lead through no symlink.
func OpenBeneath(dirfd int, path string, flags int, mode uint32) (int, error) {
	at := dirfd
	defer func() {
		if at != dirfd {
			Close(at)
		}
	}()
	for len(path) >= unix.PathMax { // which counts the NUL
		cut := strings.LastIndexByte(path[:unix.PathMax-1], '/')
		if cut <= 0 {
			return -1, unix.ENAMETOOLONG
		}
		next, err := openBeneath(at, path[:cut], unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return -1, err
		}
		if at != dirfd {
			Close(at)
		}
		at, path = next, strings.TrimLeft(path[cut:], "/")
	}
	return openBeneath(at, path, flags, mode)
}

// openBeneath is OpenBeneath for a path that one system call takes.
func openBeneath(dirfd int, path string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flags&(unix.O_CREAT|unix.O_TMPFILE) != 0 {
		how.Mode = uint64(mode)
	}
	for {
		fd, err := unix.Openat2(dirfd, path, &how)
		// EAGAIN: a rename elsewhere raced with the resolution.
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// Reopen opens the object behind an O_PATH descriptor for reading or writing.
func Reopen(fd int, flags int) (int, error) {
	for {
		n, err := unix.Open(FdPath(fd), flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// FdPath is the name of an open descriptor in /proc.
func FdPath(fd int) string {
	return "/proc/self/fd/" + strconv.Itoa(fd)
}

// Errno finds the system error in err; EIO stands for an error without one.
func Errno(err error) unix.Errno {
	if err == nil {
		return 0
	}
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return unix.EIO
}
