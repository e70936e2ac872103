package sys

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ErrNoFuseDevice says that a file is not the device of FUSE.
var ErrNoFuseDevice = errors.New("it is not the device of FUSE (character device 10:229); " +
	"let root run: rm -f /dev/fuse && mknod -m 666 /dev/fuse c 10 229")

// CheckFuseDevice tells whether fd is the device that the kernel takes FUSE servers on.
func CheckFuseDevice(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || uint64(st.Rdev) != unix.Mkdev(10, 229) {
		return ErrNoFuseDevice
	}
	return nil
}
