package ondisk

import (
	"fmt"
	"sort"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// maxTarget bounds the target of a symlink, as PATH_MAX does.
const maxTarget = 4095

// Object is one object of an image without the content of a regular file.
type Object struct {
	Meta
	Target string            // of a symlink
	Xattrs map[string][]byte // by the names that the image sees
}

// realSymlink tells whether an object of this metadata is a symlink on disk rather
// than a placeholder.
func (o Object) realSymlink() bool {
	return o.Type() == unix.S_IFLNK && o.Plain() && len(o.Xattrs) == 0
}

// Create makes o as name in dirfd, which must not exist yet. A regular file is
// made empty. When it fails, nothing is left behind.
func Create(dirfd int, name string, o Object) (err error) {
	switch {
	case o.Type() == unix.S_IFDIR:
		if err := unix.Mkdirat(dirfd, name, DiskMode(o.Meta)); err != nil {
			return err
		}
		defer cleanup(&err, dirfd, name, unix.AT_REMOVEDIR)
	case o.realSymlink():
		return unix.Symlinkat(o.Target, dirfd, name)
	default:
		var fd int
		if fd, err = sys.Open(dirfd, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, DiskMode(o.Meta)); err != nil {
			return err
		}
		defer cleanup(&err, dirfd, name, 0)
		if o.Type() == unix.S_IFLNK {
			err = sys.PwriteFull(fd, []byte(o.Target), 0)
		}
		sys.Close(fd)
		if err != nil {
			return err
		}
		if o.Type() != unix.S_IFREG {
			if err = MarkPlaceholders(dirfd); err != nil {
				return err
			}
		}
	}
	return dress(dirfd, name, o)
}

// dress gives a new object its attributes and metadata.
func dress(dirfd int, name string, o Object) error {
	names := make([]string, 0, len(o.Xattrs))
	for attr := range o.Xattrs {
		names = append(names, attr)
	}
	sort.Strings(names)
	for _, attr := range names {
		if err := sys.Setxattr(dirfd, name, StoredXattr(attr), o.Xattrs[attr], 0); err != nil {
			return fmt.Errorf("set attribute %s: %w", attr, err)
		}
	}
	return setNewMeta(dirfd, name, o.Meta)
}

// setNewMeta is SetMeta for an object that was just made with the mode that it
// is to have on disk: only the process's umask may have taken from that.
func setNewMeta(dirfd int, name string, m Meta) error {
	var st unix.Statx_t
	if err := sys.Stat(dirfd, name, &st); err != nil {
		return err
	}
	if want := DiskMode(m); uint32(st.Mode)&0o7777 != want {
		if err := Chmod(dirfd, name, want); err != nil {
			return err
		}
	}
	if m.Plain() && m.Type() != unix.S_IFLNK {
		return nil
	}
	return sys.Setxattr(dirfd, name, OverrideXattr, []byte(m.Override()), 0)
}

func cleanup(err *error, dirfd int, name string, flags int) {
	if *err != nil {
		_ = unix.Unlinkat(dirfd, name, flags)
	}
}

// SetMeta records m for the existing object name in dirfd ("" for dirfd
// itself): its permission bits on disk, and the override where these do not
// say everything.
func SetMeta(dirfd int, name string, m Meta) error {
	if m.Type() == unix.S_IFLNK && m.Plain() {
		if _, err := sys.Readlink(dirfd, name); err == nil {
			return nil
		}
	}
	if err := Chmod(dirfd, name, DiskMode(m)); err != nil {
		return err
	}
	if m.Plain() && m.Type() != unix.S_IFLNK {
		err := sys.Removexattr(dirfd, name, OverrideXattr)
		if err == unix.ENODATA || err == unix.EOPNOTSUPP {
			return nil
		}
		return err
	}
	return sys.Setxattr(dirfd, name, OverrideXattr, []byte(m.Override()), 0)
}

// Chmod sets permission bits on disk without following a symlink.
func Chmod(dirfd int, name string, mode uint32) error {
	if name == "" {
		return sys.Retry(func() error { return unix.Chmod(sys.FdPath(dirfd), mode) })
	}
	// Linux has no descriptor-and-name chmod that refuses symlinks before
	// fchmodat2 (6.6); the caller has made sure that this is none.
	return sys.Retry(func() error { return unix.Fchmodat(dirfd, name, mode, 0) })
}

// SetXattr sets an attribute by the name that the image sees.
func SetXattr(dirfd int, name, attr string, value []byte) error {
	return sys.Setxattr(dirfd, name, StoredXattr(attr), value, 0)
}

// SetTimes sets access and modification time without following a symlink.
func SetTimes(dirfd int, name string, atime, mtime unix.Timespec) error {
	ts := []unix.Timespec{atime, mtime}
	if name == "" {
		return unix.UtimesNanoAt(unix.AT_FDCWD, sys.FdPath(dirfd), ts, 0)
	}
	return unix.UtimesNanoAt(dirfd, name, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// ReadMeta gives what the image sees of an object whose disk status is st.
func ReadMeta(dirfd int, name string, st *unix.Statx_t) (Meta, error) {
	diskType := uint32(st.Mode) & unix.S_IFMT
	m := Meta{Mode: uint32(st.Mode), Rdev: uint32(unix.Mkdev(st.Rdev_major, st.Rdev_minor))}
	if diskType != unix.S_IFREG && diskType != unix.S_IFDIR {
		return m, nil
	}
	var buf [96]byte
	n, err := sys.Getxattr(dirfd, name, OverrideXattr, buf[:])
	switch err {
	case nil:
		return ParseOverride(string(buf[:n]), diskType)
	case unix.ENODATA, unix.EOPNOTSUPP:
		return m, nil
	}
	return Meta{}, err
}

// Read gives what the image sees of name in dirfd, and its status on disk.
func Read(dirfd int, name string) (Object, unix.Statx_t, error) {
	var st unix.Statx_t
	if err := sys.Stat(dirfd, name, &st); err != nil {
		return Object{}, st, err
	}
	m, err := ReadMeta(dirfd, name, &st)
	if err != nil {
		return Object{}, st, err
	}
	o := Object{Meta: m}
	if m.Type() == unix.S_IFLNK {
		if o.Target, err = ReadTarget(dirfd, name, &st); err != nil {
			return Object{}, st, err
		}
	}
	o.Xattrs, err = ReadXattrs(dirfd, name)
	return o, st, err
}

// ReadTarget gives the target of a symlink, which may be a placeholder.
func ReadTarget(dirfd int, name string, st *unix.Statx_t) (string, error) {
	if uint32(st.Mode)&unix.S_IFMT == unix.S_IFLNK {
		return sys.Readlink(dirfd, name)
	}
	if st.Size > maxTarget {
		return "", unix.ENAMETOOLONG
	}
	fd, err := sys.Open(dirfd, name, unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer sys.Close(fd)
	buf := make([]byte, st.Size)
	n, err := sys.Pread(fd, buf, 0)
	if err != nil {
		return "", unix.EIO // shorter than its size: cut off on disk
	}
	return string(buf[:n]), nil
}

// ReadXattrs gives the attributes that the image sees of name in dirfd.
func ReadXattrs(dirfd int, name string) (map[string][]byte, error) {
	stored, err := sys.Listxattr(dirfd, name)
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var xattrs map[string][]byte
	for _, s := range stored {
		attr, ok := ImageXattr(s)
		if !ok {
			continue
		}
		value, err := sys.GetxattrAll(dirfd, name, s)
		if err == unix.ENODATA {
			continue
		}
		if err != nil {
			return nil, err
		}
		if xattrs == nil {
			xattrs = make(map[string][]byte)
		}
		xattrs[attr] = value
	}
	return xattrs, nil
}

// PlaceholderXattr marks a directory that holds placeholders, so that a
// listing asks its files for their types only where it must.
const PlaceholderXattr = "user.mica.placeholders"

// HasPlaceholders tells whether the directory dirfd may hold placeholders.
func HasPlaceholders(dirfd int) (bool, error) {
	_, err := sys.Getxattr(dirfd, "", PlaceholderXattr, nil)
	switch err {
	case nil:
		return true, nil
	case unix.ENODATA, unix.EOPNOTSUPP:
		return false, nil
	}
	return false, err
}

// MarkPlaceholders notes that the directory dirfd holds placeholders.
func MarkPlaceholders(dirfd int) error {
	return sys.Setxattr(dirfd, "", PlaceholderXattr, []byte("y"), 0)
}

// CreatePlaceholder makes a symlink as a placeholder even where a real one
// would do: unlike that, it can carry attributes.
func CreatePlaceholder(dirfd int, name string, o Object) (err error) {
	if err := MarkPlaceholders(dirfd); err != nil {
		return err
	}
	fd, err := sys.Open(dirfd, name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer cleanup(&err, dirfd, name, 0)
	err = sys.PwriteFull(fd, []byte(o.Target), 0)
	sys.Close(fd)
	if err != nil {
		return err
	}
	return dress(dirfd, name, o)
}
