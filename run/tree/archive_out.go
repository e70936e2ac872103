package tree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/run/skeleton"
)

// archiver writes a part of a tree as a tar stream.
type archiver struct {
	t     *Tree
	w     *tar.Writer
	links map[uint64]string // names of hard-linked files already written, by inode number
	buf   []byte
}

// WriteArchive writes the object at p and all below it, but for what the user
// may not read of the machine's root. It is called name in
// the archive; with the empty name a directory's content stands at the top.
func (t *Tree) WriteArchive(ctx context.Context, w io.Writer, p, name string, follow bool) error {
	n, attr, err := t.lookup(p, follow)
	if err != nil {
		return fmt.Errorf("open %s in the container: %w", p, err)
	}
	defer t.forget(n)
	a := &archiver{t: t, w: tar.NewWriter(w), links: make(map[uint64]string), buf: make([]byte, 256<<10)}
	if name == "" {
		err = a.children(ctx, n, "")
	} else {
		err = a.object(ctx, n, &attr, name)
	}
	if err != nil {
		return err
	}
	return a.w.Close()
}

// children writes the entries of a directory.
func (a *archiver) children(ctx context.Context, dir *cow.Node, prefix string) error {
	names, err := a.t.names(dir)
	if err != nil {
		return fmt.Errorf("list /%s in the container: %w", prefix, err)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		full := path.Join(prefix, name)
		var attr cow.Attr
		n, err := a.t.Union.Lookup(dir, name, &attr)
		if err == unix.ENOENT || err == unix.EACCES && a.t.Union.MayBeShut(dir) {
			continue // removed meanwhile; or of a directory that can be listed only
		}
		if err != nil {
			return fmt.Errorf("open %s in the container: %w", full, err)
		}
		if a.t.of != nil && skeleton.IsMark(a.t.of, a.t.Union.LowerDir(n), name) {
			a.t.forget(n)
			continue
		}
		err = a.object(ctx, n, &attr, full)
		if errors.Is(err, unix.EACCES) && a.t.Union.MayBeShut(n) {
			err = nil
		}
		a.t.forget(n)
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *archiver) object(ctx context.Context, n *cow.Node, attr *cow.Attr, name string) error {
	h := &tar.Header{
		Name: name, Mode: int64(attr.Mode & 0o7777), Uid: int(attr.UID), Gid: int(attr.GID),
		ModTime: time.Unix(attr.Mtime.Sec, int64(attr.Mtime.Nsec)), Format: tar.FormatPAX,
	}
	t := attr.Mode & unix.S_IFMT
	linked := attr.Nlink > 1 && t != unix.S_IFDIR && t != unix.S_IFSOCK
	if first, ok := a.links[attr.Ino]; ok && linked {
		h.Typeflag, h.Linkname = tar.TypeLink, first
		return a.header(h)
	}
	switch t {
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, attr.Size
		if _, err := a.t.Union.Read(n, a.buf[:1], 0); err != nil { // before there is a header that promises it
			return fmt.Errorf("read %s in the container: %w", name, err)
		}
	case unix.S_IFLNK:
		target, err := a.t.Union.Readlink(n)
		if err != nil {
			return fmt.Errorf("read symlink %s in the container: %w", name, err)
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, target
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if t == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(uint64(attr.Rdev))), int64(unix.Minor(uint64(attr.Rdev)))
	default:
		return nil // sockets live as long as who listens on them
	}
	if err := a.xattrs(n, h); err != nil {
		return fmt.Errorf("read attributes of %s in the container: %w", name, err)
	}
	if err := a.header(h); err != nil {
		return err
	}
	if linked {
		a.links[attr.Ino] = name
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return a.children(ctx, n, name)
	case tar.TypeReg:
		return a.content(n, name, attr.Size)
	}
	return nil
}

func (a *archiver) header(h *tar.Header) error {
	if err := a.w.WriteHeader(h); err != nil {
		return fmt.Errorf("write %s to the archive: %w", h.Name, err)
	}
	return nil
}

// xattrs adds the attributes that an archive can spell.
func (a *archiver) xattrs(n *cow.Node, h *tar.Header) error {
	names, err := a.t.Union.Listxattr(n)
	if err == unix.EOPNOTSUPP {
		return nil
	}
	if err != nil {
		return err
	}
	for _, attr := range names {
		if strings.Contains(attr, "=") {
			continue
		}
		size, err := a.t.Union.Getxattr(n, attr, nil)
		if err == unix.EOPNOTSUPP || err == unix.ENODATA { // of no namespace, or removed meanwhile
			continue
		}
		if err != nil {
			return err
		}
		value := make([]byte, size)
		if size, err = a.t.Union.Getxattr(n, attr, value); err != nil {
			return err
		}
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords["SCHILY.xattr."+attr] = string(value[:size])
	}
	return nil
}

// content writes exactly size bytes: what a file loses while it is read becomes zeros, what it gains
// is left out.
func (a *archiver) content(n *cow.Node, name string, size int64) error {
	for off := int64(0); off < size; {
		part := a.buf[:min(int64(len(a.buf)), size-off)]
		got, err := a.t.Union.Read(n, part, off)
		if err != nil {
			return fmt.Errorf("read %s in the container: %w", name, err)
		}
		clear(part[got:])
		if _, err := a.w.Write(part); err != nil {
			return fmt.Errorf("write %s to the archive: %w", name, err)
		}
		off += int64(len(part))
	}
	return nil
}
