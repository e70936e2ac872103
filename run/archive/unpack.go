// Package archive packs files of the host as tar streams, and unpacks such streams below a directory of the host. It is what a
// container copies to and from outside of its own tree: a stream may come from the container, and what lies in the directory
// may change meanwhile, so nothing is reached but by way of an open directory that bounds it.
package archive

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

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// Unpack unpacks a tar stream into an existing directory of the host, which is called dir, with the owners that it names if owners is set.
// Symlinks are followed inside the directory only.
// A file that is there is written over if inPlace is set, since it may be mounted somewhere, and replaced if not.
func Unpack(r io.Reader, root *os.Root, dir string, owners, inPlace bool) error {
	u := &unpacker{root: root, dir: dir, owners: owners, inPlace: inPlace, skipped: make(map[string]bool)}
	err := u.entries(tar.NewReader(r))
	finishErr := u.finish() // also of what an error has cut off
	if err == nil {
		err = finishErr
	}
	return err
}

func (u *unpacker) entries(in *tar.Reader) error {
	for {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := u.entry(h, in); err != nil {
			return u.named(h.Name, err)
		}
	}
}

type unpacker struct {
	root    *os.Root
	dir     string
	owners  bool
	inPlace bool
	skipped map[string]bool
	dirs    []unpackedDir // that get their modes and times at the end, when nothing is to be made in them any more
}

type unpackedDir struct {
	path string
	head *tar.Header
}

func (u *unpacker) finish() error {
	for _, d := range slices.Backward(u.dirs) {
		if err := u.attributes(d.path, d.head); err != nil {
			return u.named(d.path, err)
		}
	}
	return nil
}

// named is an error under the name that the user knows its place by.
func (u *unpacker) named(name string, err error) error {
	if p := new(fs.PathError); errors.As(err, &p) {
		err = p.Err
	}
	return fmt.Errorf("write %s: %w", filepath.Join(u.dir, name), err)
}

func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name, err := EntryPath(h.Name)
	if err != nil {
		return err
	}
	kind := kindOf(h)
	if kind == 0 {
		u.skipped[name] = true // devices cannot be made, and sockets live as long as who listens on them
		return nil
	}
	target := ""
	if kind == tar.TypeLink {
		if target, err = EntryPath(h.Linkname); err != nil || target == name || u.skipped[target] {
			return err
		}
		if _, err := u.root.Lstat(target); err != nil {
			return err
		}
	}
	fi, err := u.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err := u.root.MkdirAll(path.Dir(name), 0o755); err != nil {
			return err
		}
	} else if err != nil {
		return err
	} else if err := u.makeRoom(name, kind, fi); err != nil {
		return err
	}
	switch kind {
	case tar.TypeDir:
		u.dirs = append(u.dirs, unpackedDir{name, h})
		if fi != nil {
			return u.open(name, fi)
		}
		return u.root.Mkdir(name, 0o700)
	case tar.TypeSymlink:
		if err := u.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
		if !u.owners {
			return nil
		}
		return u.root.Lchown(name, h.Uid, h.Gid)
	case tar.TypeLink:
		return u.root.Link(target, name)
	case tar.TypeFifo:
		err = u.fifo(name)
	default:
		err = u.content(name, content, h.Size)
	}
	if err != nil {
		return err
	}
	return u.attributes(name, h)
}

// kindOf is the type of an entry, one for all kinds of files; 0 for what is not unpacked.
func kindOf(h *tar.Header) byte {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return tar.TypeReg
	case tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo:
		return h.Typeflag
	}
	return 0
}

// makeRoom removes what is in the way of an entry, if that may be: a file or symlink for what is no directory.
func (u *unpacker) makeRoom(name string, kind byte, fi fs.FileInfo) error {
	switch {
	case fi.IsDir() && kind == tar.TypeDir:
		return nil
	case fi.IsDir():
		return errors.New("there is a directory of that name")
	case kind == tar.TypeDir:
		return errors.New("there is something of that name that is no directory")
	case u.inPlace && kind == tar.TypeReg && fi.Mode().IsRegular():
		return nil
	case kind == tar.TypeFifo && fi.Mode()&fs.ModeNamedPipe != 0:
	case !fi.Mode().IsRegular() && fi.Mode()&fs.ModeSymlink == 0:
		return errIrregular
	}
	return u.root.Remove(name)
}

// open lets its owner write in a directory until the end, since root may in any.
func (u *unpacker) open(name string, fi fs.FileInfo) error {
	if fi.Mode().Perm()&0o700 == 0o700 {
		return nil
	}
	if err := u.root.Chmod(name, fi.Mode()|0o700); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// content writes a file anew; one that is there keeps its inode if that can be written.
func (u *unpacker) content(name string, r io.Reader, size int64) error {
	const flags = os.O_CREATE | os.O_WRONLY | os.O_TRUNC
	f, err := openRegular(u.root, name, flags)
	if errors.Is(err, fs.ErrPermission) && u.root.Remove(name) == nil {
		f, err = openRegular(u.root, name, flags)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(&sys.SparseWriter{File: f}, r)
	if err == nil {
		err = f.Truncate(size)
	}
	return errors.Join(err, f.Close())
}

var errIrregular = errors.New("there is a device, FIFO or socket of that name")

// openRegular opens a regular file. What a container puts in its place meanwhile is not waited for.
func openRegular(root *os.Root, name string, flags int) (*os.File, error) {
	f, err := root.OpenFile(name, flags|unix.O_NONBLOCK, 0o600)
	if errors.Is(err, unix.ENXIO) { // nobody reads the FIFO
		return nil, errIrregular
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = errIrregular
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (u *unpacker) fifo(name string) error {
	dir, err := u.root.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Mknodat(int(dir.Fd()), filepath.Base(name), unix.S_IFIFO|0o600, 0)
}

// attributes sets what an object has beside its content, by way of a descriptor: the name may be another object's by now,
// where a container can change it.
func (u *unpacker) attributes(name string, h *tar.Header) error {
	f, err := u.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrPermission) { // it may be written only
		f, err = u.root.OpenFile(name, os.O_WRONLY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if u.owners {
		err := f.Chown(h.Uid, h.Gid)
		if errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("give it to %d:%d: there is no such id in the container", h.Uid, h.Gid)
		}
		if err != nil {
			return err
		}
	}
	if err := u.xattrs(f, h); err != nil {
		return err
	}
	mode := h.FileInfo().Mode()
	if !u.owners && h.Typeflag != tar.TypeDir {
		mode &^= fs.ModeSetuid | fs.ModeSetgid // they were another owner's
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	t := sys.Timespec(h.ModTime)
	return unix.UtimesNanoAt(unix.AT_FDCWD, sys.FdPath(int(f.Fd())), []unix.Timespec{t, t}, 0)
}

// xattrs sets extended attributes as far as the filesystem and the caller's rights allow. Those that grant something to
// somebody go with owners only: without, their ids would be others.
func (u *unpacker) xattrs(f *os.File, h *tar.Header) error {
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || h.Typeflag == tar.TypeFifo || !u.owners && !strings.HasPrefix(attr, "user.") {
			continue
		}
		switch err := unix.Fsetxattr(int(f.Fd()), attr, []byte(value), 0); err {
		case nil, unix.EPERM, unix.EOPNOTSUPP, unix.ENOSPC, unix.E2BIG, unix.ERANGE: // what this disk cannot hold is left out
		default:
			return fmt.Errorf("set attribute %s: %w", attr, err)
		}
	}
	return nil
}

// EntryPath is where an entry lies below the directory that an archive is unpacked into; absolute names begin there, too.
func EntryPath(name string) (string, error) {
	p := path.Clean(strings.TrimLeft(name, "/"))
	if p == ".." || strings.HasPrefix(p, "../") {
		return "", errEscapes
	}
	return p, nil
}

var errEscapes = errors.New("the name leads out of the directory")
