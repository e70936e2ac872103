package tree

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/run/archive"
)

// unarchiver writes the entries of a tar stream into a tree.
type unarchiver struct {
	t          *Tree
	base       string // directory of the tree
	keepOwners bool
	times      []pendingTime // of directories, set when their content is there
	changed    ChangedFunc
}

type pendingTime struct {
	path string
	time unix.Timespec
}

// ChangedFunc hears of a name that was made or replaced, and what it is now.
type ChangedFunc func(dir *cow.Node, name string, n *cow.Node)

// ReplaceRecord is a PAX record of entries that take the place of whatever has their name, where else a directory replaces nothing
// but a directory, and nothing else replaces one.
const ReplaceRecord = "MICA.replace"

// ReadArchive unpacks a tar stream below the directory base. Names that lead out of it are refused; symlinks in the tree are
// followed inside the tree only. changed, if not nil, hears of every name that was made or replaced.
func (t *Tree) ReadArchive(r io.Reader, base string, keepOwners bool, changed ChangedFunc) error {
	u := &unarchiver{t: t, base: base, keepOwners: keepOwners, changed: changed}
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		if err := u.entry(h, in); err != nil {
			return fmt.Errorf("write %s in the container: %w", path.Join(base, h.Name), err)
		}
	}
	for i := len(u.times) - 1; i >= 0; i-- {
		p := u.times[i]
		n, attr, err := t.lookup(p.path, false)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			continue // a later entry has replaced it
		}
		if err != nil {
			return fmt.Errorf("set times of %s in the container: %w", p.path, err)
		}
		if n.IsDir() {
			err = t.Union.Setattr(n, cow.SetAttr{Atime: &p.time, Mtime: &p.time}, &attr)
		}
		t.forget(n)
		if err != nil {
			return fmt.Errorf("set times of %s in the container: %w", p.path, err)
		}
	}
	return nil
}

func (u *unarchiver) entry(h *tar.Header, content io.Reader) error {
	name, err := archive.EntryPath(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		return nil
	}
	full := path.Join(u.base, name)
	parentPath, last := path.Dir(full), path.Base(full)
	if err := u.t.makeDirs(parentPath); err != nil {
		return err
	}
	parent, _, err := u.t.lookup(parentPath, true)
	if err != nil {
		return err
	}
	defer u.t.forget(parent)
	if h.Typeflag == tar.TypeLink {
		return u.link(h, parent, last)
	}
	mode, ok := tarMode(h)
	if !ok {
		return nil
	}
	n, attr, err := u.place(parent, last, mode, h)
	if err != nil {
		return err
	}
	defer u.t.forget(n)
	if mode&unix.S_IFMT == unix.S_IFREG {
		if err := u.content(n, content); err != nil {
			return err
		}
	}
	if err := u.attributes(n, h, mode, &attr); err != nil {
		return err
	}
	if u.changed != nil {
		u.changed(parent, last, n)
	}
	if h.Typeflag == tar.TypeDir {
		u.times = append(u.times, pendingTime{full, sys.Timespec(h.ModTime)})
	}
	return nil
}

// tarMode is the mode of an entry with its type; false for what is no object.
func tarMode(h *tar.Header) (uint32, bool) {
	mode := uint32(h.Mode) & 0o7777
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return mode | unix.S_IFREG, true
	case tar.TypeDir:
		return mode | unix.S_IFDIR, true
	case tar.TypeSymlink:
		return 0o777 | unix.S_IFLNK, true
	case tar.TypeFifo:
		return mode | unix.S_IFIFO, true
	case tar.TypeChar:
		return mode | unix.S_IFCHR, true
	case tar.TypeBlock:
		return mode | unix.S_IFBLK, true
	}
	return 0, false
}

// place makes the object, in place of what has its name: a directory stays
// if it is one. A file does not keep its inode, which may have other names.
func (u *unarchiver) place(parent *cow.Node, name string, mode uint32, h *tar.Header) (*cow.Node, cow.Attr, error) {
	var attr cow.Attr
	typ := mode & unix.S_IFMT
	old, err := u.t.Union.Lookup(parent, name, &attr)
	if err == nil {
		if attr.Mode&unix.S_IFMT == unix.S_IFDIR && typ == unix.S_IFDIR {
			return old, attr, nil
		}
		if err := u.vacate(parent, name, old, typ, h); err != nil {
			return nil, attr, err
		}
	} else if err != unix.ENOENT {
		return nil, attr, err
	}
	dev, ok := ondisk.Device(h.Devmajor, h.Devminor)
	if !ok {
		return nil, attr, fmt.Errorf("device number %d:%d is out of range", h.Devmajor, h.Devminor)
	}
	n, err := u.t.Union.Create(cow.Caller{}, parent, name, cow.NewObject{Mode: mode, Rdev: dev, Target: h.Linkname}, &attr)
	return n, attr, err
}

// vacate removes what has the name of an entry, and gives the node back.
func (u *unarchiver) vacate(parent *cow.Node, name string, old *cow.Node, typ uint32, h *tar.Header) error {
	isDir := old.IsDir()
	if _, replace := h.PAXRecords[ReplaceRecord]; replace && isDir {
		return u.t.removeDir(parent, name, old)
	} else if isDir || typ == unix.S_IFDIR && !replace {
		u.t.forget(old)
		return errors.New("a directory does not replace something else, nor something else a directory")
	}
	u.t.forget(old)
	return u.t.Union.Unlink(parent, name)
}

func (u *unarchiver) content(n *cow.Node, r io.Reader) error {
	buf := make([]byte, 256<<10)
	for off := int64(0); ; {
		got, err := io.ReadFull(r, buf)
		if got > 0 {
			if err := u.t.Union.Write(n, buf[:got], off, false); err != nil {
				return err
			}
			off += int64(got)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
	}
}

// attributes sets owner and mode, then attributes, since a change of owner takes capabilities away, and then times.
func (u *unarchiver) attributes(n *cow.Node, h *tar.Header, mode uint32, attr *cow.Attr) error {
	var set cow.SetAttr
	var uid, gid uint32
	if u.keepOwners {
		if h.Uid < 0 || h.Gid < 0 || int64(h.Uid) >= noID || int64(h.Gid) >= noID {
			return fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
		}
		uid, gid = uint32(h.Uid), uint32(h.Gid)
	}
	set.UID, set.GID = &uid, &gid
	perm := mode & 0o7777
	if mode&unix.S_IFMT != unix.S_IFLNK {
		set.Mode = &perm
	}
	if err := u.t.Union.Setattr(n, set, attr); err != nil {
		return err
	}
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok || !u.keepOwners && strings.HasPrefix(name, "security.") {
			continue
		}
		if err := u.t.Union.Setxattr(n, name, []byte(value), 0, false); err != nil && err != unix.EOPNOTSUPP {
			return fmt.Errorf("set attribute %s: %w", name, err)
		}
	}
	mtime := sys.Timespec(h.ModTime)
	return u.t.Union.Setattr(n, cow.SetAttr{Atime: &mtime, Mtime: &mtime}, attr)
}

// noID is what the kernel takes for no user.
const noID = 1<<32 - 1

func (u *unarchiver) link(h *tar.Header, parent *cow.Node, name string) error {
	target, err := archive.EntryPath(h.Linkname)
	if err != nil {
		return err
	}
	n, _, err := u.t.lookup(path.Join(u.base, target), false)
	if err != nil {
		return fmt.Errorf("link to %s: %w", h.Linkname, err)
	}
	defer u.t.forget(n)
	var attr cow.Attr
	if old, err := u.t.Union.Lookup(parent, name, &attr); err == nil {
		if err := u.vacate(parent, name, old, unix.S_IFREG, h); err != nil {
			return err
		}
	}
	if err := u.t.Union.Link(n, parent, name, &attr); err != nil {
		return err
	}
	u.t.forget(n) // Link gave it one more reference
	if u.changed != nil {
		u.changed(parent, name, n)
	}
	return nil
}
