package sys

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls that take a descriptor, a name and an attribute came with
// Linux 6.13; x/sys has no wrappers for them.
const (
	sysSetxattrat    = 463
	sysGetxattrat    = 464
	sysListxattrat   = 465
	sysRemovexattrat = 466
)

// xattrArgs is struct xattr_args of linux/xattr.h, whose 64-bit address is a
// pointer here so that a buffer on a moving stack stays found.
type xattrArgs struct {
	value unsafe.Pointer
	size  uint32
	flags uint32
}

// noXattrAt is set once the kernel has said that it lacks the calls above.
var noXattrAt atomic.Bool

// stands tells whether the answer e of one of these calls stands. It does not
// where the kernel lacks the call, nor for a descriptor that was opened with
// O_PATH, from which only its magic link leads to the attributes.
func stands(e unix.Errno, name string) bool {
	if e == unix.ENOSYS {
		noXattrAt.Store(true)
		return false
	}
	return e != unix.EBADF || name != ""
}

// at says how name in dirfd is addressed: the empty name means dirfd itself.
func at(name string) uintptr {
	if name == "" {
		return unix.AT_EMPTY_PATH | unix.AT_SYMLINK_NOFOLLOW
	}
	return unix.AT_SYMLINK_NOFOLLOW
}

// procPath is the name of an object for the path-based calls: the descriptor's
// magic link and one component, which is not followed.
func procPath(dirfd int, name string) string {
	if dirfd == unix.AT_FDCWD {
		return name
	}
	if name == "" {
		return FdPath(dirfd)
	}
	return FdPath(dirfd) + "/" + name
}

func errnoOrNil(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

// Getxattr reads attribute attr of name in dirfd into buf and gives its size.
func Getxattr(dirfd int, name, attr string, buf []byte) (int, error) {
	if !noXattrAt.Load() {
		p, err := unix.BytePtrFromString(name)
		if err != nil {
			return 0, unix.EINVAL
		}
		a, err := unix.BytePtrFromString(attr)
		if err != nil {
			return 0, unix.EINVAL
		}
		args := xattrArgs{size: uint32(len(buf))}
		if len(buf) > 0 {
			args.value = unsafe.Pointer(&buf[0])
		}
		n, _, e := unix.Syscall6(sysGetxattrat, uintptr(dirfd), uintptr(unsafe.Pointer(p)), at(name),
			uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
		if stands(e, name) {
			return int(n), errnoOrNil(e)
		}
	}
	if name == "" {
		return unix.Getxattr(FdPath(dirfd), attr, buf)
	}
	return unix.Lgetxattr(procPath(dirfd, name), attr, buf)
}

// Setxattr sets attribute attr of name in dirfd; flags as in setxattr(2).
func Setxattr(dirfd int, name, attr string, value []byte, flags int) error {
	if !noXattrAt.Load() {
		p, err := unix.BytePtrFromString(name)
		if err != nil {
			return unix.EINVAL
		}
		a, err := unix.BytePtrFromString(attr)
		if err != nil {
			return unix.EINVAL
		}
		args := xattrArgs{size: uint32(len(value)), flags: uint32(flags)}
		if len(value) > 0 {
			args.value = unsafe.Pointer(&value[0])
		}
		_, _, e := unix.Syscall6(sysSetxattrat, uintptr(dirfd), uintptr(unsafe.Pointer(p)), at(name),
			uintptr(unsafe.Pointer(a)), uintptr(unsafe.Pointer(&args)), unsafe.Sizeof(args))
		if stands(e, name) {
			return errnoOrNil(e)
		}
	}
	if name == "" {
		return unix.Setxattr(FdPath(dirfd), attr, value, flags)
	}
	return unix.Lsetxattr(procPath(dirfd, name), attr, value, flags)
}

// Removexattr removes attribute attr of name in dirfd.
func Removexattr(dirfd int, name, attr string) error {
	if !noXattrAt.Load() {
		p, err := unix.BytePtrFromString(name)
		if err != nil {
			return unix.EINVAL
		}
		a, err := unix.BytePtrFromString(attr)
		if err != nil {
			return unix.EINVAL
		}
		_, _, e := unix.Syscall6(sysRemovexattrat, uintptr(dirfd), uintptr(unsafe.Pointer(p)), at(name),
			uintptr(unsafe.Pointer(a)), 0, 0)
		if stands(e, name) {
			return errnoOrNil(e)
		}
	}
	if name == "" {
		return unix.Removexattr(FdPath(dirfd), attr)
	}
	return unix.Lremovexattr(procPath(dirfd, name), attr)
}

// listxattr is one call of listxattrat, or of its older forms.
func listxattr(dirfd int, name string, buf []byte) (int, error) {
	if !noXattrAt.Load() {
		p, err := unix.BytePtrFromString(name)
		if err != nil {
			return 0, unix.EINVAL
		}
		var b unsafe.Pointer
		if len(buf) > 0 {
			b = unsafe.Pointer(&buf[0])
		}
		n, _, e := unix.Syscall6(sysListxattrat, uintptr(dirfd), uintptr(unsafe.Pointer(p)), at(name),
			uintptr(b), uintptr(len(buf)), 0)
		if stands(e, name) {
			return int(n), errnoOrNil(e)
		}
	}
	if name == "" {
		return unix.Listxattr(FdPath(dirfd), buf)
	}
	return unix.Llistxattr(procPath(dirfd, name), buf)
}

// Listxattr lists the attributes of name in dirfd, in the disk's order.
func Listxattr(dirfd int, name string) ([]string, error) {
	var small [512]byte
	buf := small[:]
	for {
		n, err := listxattr(dirfd, name, buf)
		if err == unix.ERANGE || err == unix.E2BIG {
			if n, err = listxattr(dirfd, name, nil); err != nil {
				return nil, err
			}
			buf = make([]byte, n+256)
			continue
		}
		if err != nil {
			return nil, err
		}
		return splitNames(buf[:n]), nil
	}
}

// GetxattrAll reads an attribute of any size.
func GetxattrAll(dirfd int, name, attr string) ([]byte, error) {
	var small [256]byte
	buf := small[:]
	for {
		n, err := Getxattr(dirfd, name, attr, buf)
		if err == unix.ERANGE {
			if n, err = Getxattr(dirfd, name, attr, nil); err != nil {
				return nil, err
			}
			buf = make([]byte, n+64)
			continue
		}
		if err != nil {
			return nil, err
		}
		return append(make([]byte, 0, n), buf[:n]...), nil
	}
}

// splitNames cuts the NUL-terminated list that listxattr gives.
func splitNames(b []byte) []string {
	var names []string
	for start, i := 0, 0; i < len(b); i++ {
		if b[i] == 0 {
			names = append(names, string(b[start:i]))
			start = i + 1
		}
	}
	return names
}
