package whiteout

import (
	"fmt"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// The attributes that mark a directory as opaque, and in what order.
const (
	UserOpaque    = "user.overlay.opaque"
	TrustedOpaque = "trusted.overlay.opaque"
	FuseOpaque    = "user.fuseoverlayfs.opaque"

	userWhiteout    = "user.overlay.whiteout"
	trustedWhiteout = "trusted.overlay.whiteout"
)

// DirMarks is what the attributes of a directory say about whiteouts.
type DirMarks struct {
	Opaque bool
	// Xattr says that empty files in the directory may be whiteouts by
	// attribute, so that each must be asked (see [IsXattrWhiteout]).
	Xattr bool
	// Placeholders says that regular files in the directory may stand for
	// objects of other types (see package ondisk).
	Placeholders bool
}

// ReadDir reads the marks of the directory fd. An error in reading is an
// error: content that an unreadable mark deletes must not reappear.
func ReadDir(fd int) (DirMarks, error) {
	names, err := sys.Listxattr(fd, "")
	if err == unix.EOPNOTSUPP {
		return DirMarks{}, nil
	}
	if err != nil {
		return DirMarks{}, fmt.Errorf("list whiteout marks: %w", err)
	}
	var m DirMarks
	for _, name := range names {
		switch name {
		case UserOpaque, TrustedOpaque, FuseOpaque:
		case ondisk.PlaceholderXattr:
			m.Placeholders = true
			continue
		default:
			continue
		}
		var buf [8]byte
		n, err := sys.Getxattr(fd, "", name, buf[:])
		if err != nil && err != unix.ERANGE {
			return DirMarks{}, fmt.Errorf("read whiteout mark %s: %w", name, err)
		}
		switch string(buf[:max(n, 0)]) {
		case "y":
			m.Opaque = true
		case "x":
			m.Xattr = true
		}
	}
	return m, nil
}

// IsDevice tells whether a status on disk is that of a 0:0 character device.
func IsDevice(st *unix.Statx_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev_major == 0 && st.Rdev_minor == 0
}

// IsXattrWhiteout tells whether the empty file name in dirfd is a whiteout by
// attribute. Ask only in directories whose marks say Xattr.
func IsXattrWhiteout(dirfd int, name string) (bool, error) {
	for _, attr := range [...]string{userWhiteout, trustedWhiteout} {
		_, err := sys.Getxattr(dirfd, name, attr, nil)
		switch err {
		case nil:
			return true, nil
		case unix.ENODATA, unix.EOPNOTSUPP, unix.EPERM:
		default:
			return false, fmt.Errorf("read whiteout mark %s: %w", attr, err)
		}
	}
	return false, nil
}
