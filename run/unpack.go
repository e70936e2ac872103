package run

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// unpack unpacks a tar stream into an existing directory of the host, with the owners that it names if owners is set.
// Symlinks are followed inside the directory only.
// A file that is there is written over if inPlace is set, since it may be mounted somewhere, and replaced if not.
func unpack(r io.Reader, root *os.Root, owners, inPlace bool) error {
	u := &unpacker{root: root, owners: owners, inPlace: inPlace}
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return u.finish()
		}
		if err != nil {
			return err
		}
		if err := u.entry(h, in); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Join(root.Name(), h.Name), err)
		}
	}
}

type unpacker struct {
	root    *os.Root
	owners  bool
	inPlace bool
	dirs    []unpackedDir // that get their modes and times at the end, when nothing is to be made in them any more
}

type unpackedDir struct {
	path string
	head *tar.Header
}

func (u *unpacker) finish() error {
	for _, d := range slices.Backward(u.dirs) {
		if err := u.attributes(d.path, d.head); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Join(u.root.Name(), d.path), err)
		}
	}
	return nil
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name, err := entryPath(h.Name)
	if err != nil {
		return err
	}
	regular := h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeCont || h.Typeflag == tar.TypeGNUSparse
	fi, err := u.root.Lstat(name)
	exists := err == nil
	isDir := exists && fi.IsDir()
	switch {
	case isDir && h.Typeflag != tar.TypeDir:
		return errors.New("there is a directory of that name")
	case h.Typeflag == tar.TypeLink && strings.TrimLeft(path.Clean(h.Linkname), "/") == name:
		return nil
	case exists && !isDir && !(u.inPlace && regular && fi.Mode().IsRegular()):
		if err := u.root.Remove(name); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		err = u.content(name, content, h.Size)
	case tar.TypeDir:
		u.dirs = append(u.dirs, unpackedDir{name, h})
		if err := u.root.MkdirAll(name, 0o700); err != nil || !isDir {
			return err
		}
		return u.open(name, fi)
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		return u.chown(name, h)
	case tar.TypeLink:
		target, err := entryPath(h.Linkname)
		if err != nil {
			return err
		}
		return u.root.Link(target, name)
	case tar.TypeFifo:
		err = u.fifo(name)
	default:
		return nil // devices cannot be made, and sockets live as long as who listens on them
	}
	if err != nil {
		return err
	}
	return u.attributes(name, h)
}

// open lets its owner write in a directory until the end, since root may in any.
func (u *unpacker) open(name string, fi fs.FileInfo) error {
	if err := u.root.Chmod(name, fi.Mode().Perm()|0o700); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// content writes a file anew; one that is there keeps its inode if that can be written.
func (u *unpacker) content(name string, r io.Reader, size int64) error {
	const flags = os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	f, err := u.root.OpenFile(name, flags, 0o600)
	if errors.Is(err, fs.ErrPermission) && u.root.Remove(name) == nil {
		f, err = u.root.OpenFile(name, flags, 0o600)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(&sparseWriter{f: f}, r)
	if err == nil {
		err = f.Truncate(size)
	}
	return errors.Join(err, f.Close())
}

func (u *unpacker) fifo(name string) error {
	dir, err := u.root.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Mknodat(int(dir.Fd()), filepath.Base(name), unix.S_IFIFO|0o600, 0)
}

func (u *unpacker) chown(name string, h *tar.Header) error {
	if !u.owners {
		return nil
	}
	return u.root.Lchown(name, h.Uid, h.Gid)
}

// attributes sets what an object has beside its content.
func (u *unpacker) attributes(name string, h *tar.Header) error {
	if err := u.chown(name, h); err != nil {
		return err
	}
	if err := u.xattrs(name, h); err != nil {
		return err
	}
	if err := u.root.Chmod(name, h.FileInfo().Mode()); err != nil {
		return err
	}
	return u.setTime(name, h.ModTime)
}

// setTime sets the time of a file or directory, of any century.
func (u *unpacker) setTime(name string, t time.Time) error {
	if year := t.Year(); year > 1680 && year < 2260 { // what a number of nanoseconds can hold, which is what package os uses
		return u.root.Chtimes(name, t, t)
	}
	f, err := u.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	ts := timespec(t)
	return unix.UtimesNanoAt(unix.AT_FDCWD, sys.FdPath(int(f.Fd())), []unix.Timespec{ts, ts}, 0)
}

// xattrs sets extended attributes as far as the filesystem and the caller's rights allow. Those that grant something to
// somebody go with owners only: without, their ids would be others.
func (u *unpacker) xattrs(name string, h *tar.Header) error {
	var f *os.File
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || h.Typeflag == tar.TypeFifo || !u.owners && !strings.HasPrefix(attr, "user.") {
			continue
		}
		if f == nil {
			var err error
			f, err = u.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
			if errors.Is(err, fs.ErrPermission) {
				return nil
			}
			if err != nil {
				return err
			}
			defer f.Close()
		}
		err := unix.Fsetxattr(int(f.Fd()), attr, []byte(value), 0)
		if err != nil && err != unix.EPERM && err != unix.EOPNOTSUPP {
			return fmt.Errorf("set attribute %s: %w", attr, err)
		}
	}
	return nil
}
