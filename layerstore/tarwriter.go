package layerstore

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/whiteout"
)

// writtenLayer says what a layer's archive holds.
type writtenLayer struct {
	layerInfo
	Entries int
}

// writeLayer writes changes as the plain tar of a layer, in the order in which they
// come: the same changes give the same bytes. Sockets are left out, which tar
// cannot hold and which mean nothing without their process.
func writeLayer(ctx context.Context, w io.Writer, changes Changes) (writtenLayer, error) {
	l := layerWriter{tw: tar.NewWriter(w), buf: make([]byte, 256<<10)}
	err := changes(ctx, func(c *cow.Change) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.add(c); err != nil {
			return fmt.Errorf("archive %q: %w", clip(c.Path), err)
		}
		return nil
	})
	if err != nil {
		return writtenLayer{}, err
	}
	if err := l.tw.Close(); err != nil {
		return writtenLayer{}, fmt.Errorf("end archive: %w", err)
	}
	return l.written, nil
}

type layerWriter struct {
	tw      *tar.Writer
	written writtenLayer
	buf     []byte
}

func (l *layerWriter) add(c *cow.Change) error {
	dir, name := path.Split(c.Path)
	if mark, _ := whiteout.ParseName(name); mark != whiteout.None {
		return errors.New("a name that begins with .wh. cannot be put into a layer")
	}
	if c.Kind == cow.Deleted {
		l.written.Entries++
		return l.tw.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: dir + whiteout.DeleteName(name), Mode: 0o600, Format: tar.FormatPAX,
		})
	}
	// What could not be unpacked again must not become a layer.
	if _, err := cleanPath(c.Path); err != nil {
		return err
	}
	h, err := header(c)
	if err != nil || h == nil {
		return err
	}
	l.written.Entries++
	if err := l.tw.WriteHeader(h); err != nil {
		return err
	}
	if c.Opaque {
		return l.tw.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: h.Name + whiteout.OpaqueName, Mode: 0o600, Format: tar.FormatPAX,
		})
	}
	if h.Typeflag == tar.TypeReg && h.Size > 0 {
		l.written.Size += h.Size
		return l.content(c)
	}
	return nil
}

// header makes the tar header of a change that is no deletion; nil for a socket.
func header(c *cow.Change) (*tar.Header, error) {
	// PAX holds everything: long names, any bytes in names, nanoseconds, large
	// owners. Where plain fields are enough no extra record is written.
	h := &tar.Header{
		Name: c.Path, Mode: int64(c.Meta.Perm()), Uid: int(c.Meta.UID), Gid: int(c.Meta.GID),
		ModTime: c.Mtime, Format: tar.FormatPAX,
	}
	if c.LinkTo != "" {
		h.Typeflag, h.Linkname = tar.TypeLink, c.LinkTo
		return h, nil
	}
	switch c.Meta.Type() {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, c.Size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, strings.TrimSuffix(c.Path, "/")+"/"
	case unix.S_IFLNK:
		h.Typeflag, h.Linkname = tar.TypeSymlink, c.Target
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeBlock
		if c.Meta.Type() == unix.S_IFCHR {
			h.Typeflag = tar.TypeChar
		}
		h.Devmajor, h.Devminor = int64(unix.Major(uint64(c.Meta.Rdev))), int64(unix.Minor(uint64(c.Meta.Rdev)))
	case unix.S_IFSOCK:
		return nil, nil
	default:
		return nil, fmt.Errorf("unknown type %#o", c.Meta.Type())
	}
	for attr, value := range c.Xattrs {
		if strings.ContainsAny(attr, "=\x00") {
			continue // an archive cannot spell it
		}
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string, len(c.Xattrs))
		}
		h.PAXRecords[paxXattr+attr] = string(value)
	}
	return h, nil
}

func (l *layerWriter) content(c *cow.Change) error {
	if c.Open == nil {
		return errors.New("the change has no content")
	}
	r, err := c.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.CopyBuffer(onlyWriter{l.tw}, io.LimitReader(r, c.Size), l.buf)
	if err != nil {
		return err
	}
	if n < c.Size {
		return fmt.Errorf("the file shrank from %d to %d bytes while it was read", c.Size, n)
	}
	return nil
}

// onlyWriter hides ReadFrom, so that the copy uses the buffer it is given.
type onlyWriter struct{ io.Writer }
