package home

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/internal/sys"
)

// stageObject makes what a change describes, as a real object of the calling
// user: content, attributes, mode and times. Of a directory the mode follows when it is filled.
func stageObject(dir int, name string, c *cow.Change) error {
	var err error
	switch c.Meta.Type() {
	case unix.S_IFDIR:
		err = unix.Mkdirat(dir, name, 0o700)
	case unix.S_IFLNK:
		err = unix.Symlinkat(c.Target, dir, name)
	case unix.S_IFIFO:
		err = unix.Mknodat(dir, name, unix.S_IFIFO|0o600, 0)
	default:
		err = stageContent(dir, name, c)
	}
	if err != nil {
		return err
	}
	// Only root can give a file away; the user's own groups work for everybody.
	perm := c.Meta.Perm()
	switch err := unix.Fchownat(dir, name, int(c.Meta.UID), int(c.Meta.GID), unix.AT_SYMLINK_NOFOLLOW); err {
	case nil:
	case unix.EPERM, unix.EINVAL:
		perm &^= unix.S_ISUID | unix.S_ISGID // they were another owner's
	default:
		return err
	}
	for attr, value := range c.Xattrs {
		err := sys.Setxattr(dir, name, attr, value, 0)
		if err != nil && (strings.HasPrefix(attr, "user.") || err != unix.EPERM && err != unix.EOPNOTSUPP) {
			return err
		}
	}
	switch c.Meta.Type() {
	case unix.S_IFDIR:
		return nil
	case unix.S_IFLNK:
	default:
		if err := unix.Fchmodat(dir, name, perm, 0); err != nil {
			return err
		}
	}
	mtime := sys.Timespec(c.Mtime)
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{mtime, mtime}, unix.AT_SYMLINK_NOFOLLOW)
}

// stageContent writes a regular file. Blocks of zeros become holes.
func stageContent(dir int, name string, c *cow.Change) error {
	fd, err := sys.Open(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), name)
	in, err := c.Open()
	if err != nil {
		out.Close()
		return err
	}
	_, err = io.Copy(&sys.SparseWriter{File: out}, struct{ io.Reader }{in})
	if err == nil {
		err = out.Truncate(c.Size)
	}
	return errors.Join(err, in.Close(), out.Close())
}
