package layerstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/internal/ondisk"
	"mica/internal/sys"
)

// dirChanges gives a directory as it is on disk, in the order of names, with
// its true owners: everything in it is added, but for another directory that is
// left out, since it grows meanwhile.
func dirChanges(dir, leftOut string) Changes {
	return func(ctx context.Context, fn func(*cow.Change) error) error {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", dir, err)
		}
		defer sys.Close(fd)
		w := &dirWalk{ctx: ctx, fn: fn, links: make(map[fileID]string)}
		var st unix.Statx_t
		if sys.Stat(unix.AT_FDCWD, leftOut, &st) == nil {
			w.leftOut = fileID{sys.Dev(&st), st.Ino}
		}
		return w.object(fd, "", ".")
	}
}

type fileID struct{ dev, ino uint64 }

type dirWalk struct {
	ctx   context.Context
	fn    func(*cow.Change) error
	links map[fileID]string // the first path of each file with several names

	leftOut fileID
}

// object gives one object, called name in dirfd, and all below it.
func (w *dirWalk) object(dirfd int, name, path string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	var st unix.Statx_t
	if err := sys.Stat(dirfd, name, &st); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	c := &cow.Change{
		Path: path,
		Meta: ondisk.Meta{
			UID: st.Uid, GID: st.Gid, Mode: uint32(st.Mode), Rdev: uint32(unix.Mkdev(st.Rdev_major, st.Rdev_minor)),
		},
		Mtime: time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)),
	}
	isDir := c.Meta.Type() == unix.S_IFDIR
	if isDir && path != "." && w.leftOut == (fileID{sys.Dev(&st), st.Ino}) {
		return nil
	}
	if st.Nlink > 1 && !isDir {
		id := fileID{sys.Dev(&st), st.Ino}
		if first, ok := w.links[id]; ok {
			c.LinkTo = first
			return w.fn(c)
		}
		w.links[id] = path
	}
	var err error
	if c.Xattrs, err = realXattrs(dirfd, name); err != nil {
		return fmt.Errorf("read attributes of %s: %w", path, err)
	}
	switch c.Meta.Type() {
	case unix.S_IFLNK:
		if c.Target, err = sys.Readlink(dirfd, name); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	case unix.S_IFREG:
		c.Size = int64(st.Size)
		c.Open = func() (io.ReadCloser, error) {
			fd, err := sys.Open(dirfd, name, unix.O_RDONLY, 0)
			if err != nil {
				return nil, fmt.Errorf("open: %w", err)
			}
			return os.NewFile(uintptr(fd), path), nil
		}
	}
	if err := w.fn(c); err != nil {
		return err
	}
	if isDir {
		return w.children(dirfd, name, path)
	}
	return nil
}

func (w *dirWalk) children(dirfd int, name, path string) error {
	fd := dirfd
	if name != "" {
		var err error
		if fd, err = sys.OpenDir(dirfd, name); err != nil {
			return fmt.Errorf("open directory %s: %w", path, err)
		}
		defer sys.Close(fd)
	}
	var names []string
	err := sys.List(fd, func(name []byte, _ uint8, _ uint64) error {
		names = append(names, string(name))
		return nil
	})
	if err != nil {
		return fmt.Errorf("list directory %s: %w", path, err)
	}
	slices.Sort(names)
	for _, n := range names {
		child := n
		if path != "." {
			child = path + "/" + n
		}
		if err := w.object(fd, n, child); err != nil {
			return err
		}
	}
	return nil
}

// realXattrs reads the attributes that belong into an image: not those by
// which the host's security modules label its own files.
func realXattrs(dirfd int, name string) (map[string][]byte, error) {
	names, err := sys.Listxattr(dirfd, name)
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var xattrs map[string][]byte
	for _, attr := range names {
		if !strings.HasPrefix(attr, "user.") && !strings.HasPrefix(attr, "system.posix_acl_") &&
			attr != "security.capability" {
			continue
		}
		value, err := sys.GetxattrAll(dirfd, name, attr)
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
