package whiteout

import (
	"fmt"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// Style is how whiteouts are written on one filesystem.
type Style uint8

// The styles, best first.
const (
	// Device writes 0:0 character devices and the opaque attribute.
	Device Style = iota
	// File writes .wh. files, for filesystems that refuse devices.
	File
)

// Probe finds the style that the filesystem of dirfd allows, by trying.
func Probe(dirfd int) (Style, error) {
	const name = ".mica-probe"
	_ = unix.Unlinkat(dirfd, name, 0)
	err := unix.Mknodat(dirfd, name, unix.S_IFCHR, 0)
	switch err {
	case nil:
		return Device, unix.Unlinkat(dirfd, name, 0)
	case unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOSYS:
		return File, nil
	}
	return File, fmt.Errorf("try to make a whiteout: %w", err)
}

// Create writes a whiteout that deletes name from dirfd, where nothing of
// that name exists.
func (s Style) Create(dirfd int, name string) error {
	if s == Device {
		return unix.Mknodat(dirfd, name, unix.S_IFCHR, 0)
	}
	return touch(dirfd, DeleteName(name))
}

// Remove takes the whiteout of name away again. One that is not there is no
// error.
func (s Style) Remove(dirfd int, name string) error {
	if s == File {
		name = DeleteName(name)
	}
	err := unix.Unlinkat(dirfd, name, 0)
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// SetOpaque marks the directory name in dirfd ("" for dirfd itself) as
// opaque.
func (s Style) SetOpaque(dirfd int, name string) error {
	err := sys.Setxattr(dirfd, name, UserOpaque, []byte("y"), 0)
	if err != unix.EOPNOTSUPP && err != unix.EPERM {
		return err
	}
	fd := dirfd
	if name != "" {
		if fd, err = sys.OpenDir(dirfd, name); err != nil {
			return err
		}
		defer sys.Close(fd)
	}
	return touch(fd, OpaqueName)
}

func touch(dirfd int, name string) error {
	fd, err := sys.Open(dirfd, name, unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sys.Close(fd)
	return nil
}
