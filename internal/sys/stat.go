package sys

import (
	"time"

	"golang.org/x/sys/unix"
)

// statMask asks for everything that stat shows, and the birth time.
const statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME

// Stat reads the metadata of name in dirfd without following a symlink; the
// empty name means dirfd itself, of any type.
func Stat(dirfd int, name string, st *unix.Statx_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT | unix.AT_STATX_SYNC_AS_STAT
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	for {
		err := unix.Statx(dirfd, name, flags, statMask, st)
		if err != unix.EINTR {
			return err
		}
	}
}

// Dev gives the device number of the filesystem that holds the object.
func Dev(st *unix.Statx_t) uint64 {
	return unix.Mkdev(st.Dev_major, st.Dev_minor)
}

// Readlink reads the target of the symlink name in dirfd.
func Readlink(dirfd int, name string) (string, error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Readlinkat(dirfd, name, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return "", err
		}
		if n < len(buf) {
			return string(buf[:n]), nil
		}
		buf = make([]byte, 2*len(buf))
	}
}

// Timespec is a time of any century, which a number of nanoseconds would not hold. Where none is known it is the epoch.
func Timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{}
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}
