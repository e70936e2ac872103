package layerstore

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/whiteout"
)

// What a layer's archive may ask for. The bounds are far above real images;
// they keep a hostile archive from asking for what the disk or the tools that
// clean up after it cannot give.
const (
	maxEntries    = 16 << 20
	maxLayerBytes = 1 << 40 // bytes of all files, holes included
	maxPathBytes  = 16 << 10
	maxDepth      = 1000
	maxNameBytes  = 255
	maxSymlinks   = 40 // followed to reach one entry's directory, as in Linux
)

// extractor turns the entries of one tar into a tree in stored form. It
// trusts nothing in the archive: every access is a directory descriptor below the tree's
// root and one name that is not followed.
type extractor struct {
	ctx    context.Context
	root   int // descriptor of the tree
	style  whiteout.Style
	dirs   *dirCache
	lowers []string // directories of the layers below, topmost first
	times  []dirTime
	opaque map[string]bool // directories of this layer that hide those below
	rooted bool            // the root directory had an entry
	result layerInfo
	count  int
	buf    []byte
}

// dirTime is a directory's time, which can only be set when nothing is
// made in it any more.
type dirTime struct {
	path         string
	atime, mtime unix.Timespec
}

// extract unpacks the plain tar r into the new directory dir. lowers are the
// directories of the layers below, topmost first, for hard links into them.
// Unpacking what a commit wrote gives the committed tree.
func extract(ctx context.Context, r io.Reader, dir string, lowers []string) (layerInfo, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return layerInfo{}, fmt.Errorf("make layer directory: %w", err)
	}
	root, err := sys.OpenDir(unix.AT_FDCWD, dir)
	if err != nil {
		return layerInfo{}, fmt.Errorf("open layer directory: %w", err)
	}
	defer sys.Close(root)
	style, err := whiteout.Probe(root)
	if err != nil {
		return layerInfo{}, err
	}
	x := &extractor{
		ctx: ctx, root: root, style: style, dirs: newDirCache(root),
		lowers: lowers, opaque: make(map[string]bool), buf: make([]byte, 256<<10),
	}
	defer x.dirs.close()
	if err := ondisk.SetMeta(root, "", implicitDir); err != nil {
		return layerInfo{}, fmt.Errorf("set up layer directory: %w", err)
	}
	if err := x.run(tar.NewReader(r)); err != nil {
		return layerInfo{}, err
	}
	if !x.rooted {
		if err := x.inherit(place{dirfd: root}); err != nil {
			return layerInfo{}, err
		}
	}
	if err := x.setDirTimes(); err != nil {
		return layerInfo{}, err
	}
	return x.result, nil
}

// implicitDir is a directory that the archive uses without an entry for it.
var implicitDir = ondisk.Meta{Mode: unix.S_IFDIR | 0o755}

func (x *extractor) run(tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return x.streamError(err)
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := x.ctx.Err(); err != nil {
			return err
		}
		if x.count++; x.count > maxEntries {
			return fmt.Errorf("the archive has more than %d entries", maxEntries)
		}
		if err := x.entry(h, tr); err != nil {
			return fmt.Errorf("entry %q: %w", clip(h.Name), err)
		}
	}
}

// streamError is an error of the tar itself; one that the stream below has
// worded already stays as it is.
func (x *extractor) streamError(err error) error {
	if x.count == 0 || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tar.ErrFieldTooLong) {
		return readError(err)
	}
	if errors.Is(err, tar.ErrHeader) {
		return fmt.Errorf("the archive is corrupt after entry %d", x.count)
	}
	return err
}

// clip shortens a name for a message.
func clip(name string) string {
	if len(name) > 200 {
		return name[:200] + "..."
	}
	return name
}

// entry makes one entry of the archive.
func (x *extractor) entry(h *tar.Header, content io.Reader) error {
	path, err := cleanPath(h.Name)
	if err != nil {
		return err
	}
	if path == "" {
		return x.rootEntry(h)
	}
	if marked, err := x.whiteoutEntry(path); marked || err != nil {
		return err
	}
	o, err := objectOf(h)
	if err != nil {
		return err
	}
	if h.Size < 0 || h.Size > maxLayerBytes-x.result.Size {
		return fmt.Errorf("the layer's files are larger than %d GiB", int64(maxLayerBytes)>>30)
	}
	dirfd, dirPath, name, err := x.parent(path)
	if err != nil {
		return err
	}
	at := place{dirfd: dirfd, dir: dirPath, name: name}
	if h.Typeflag == tar.TypeLink {
		return x.link(at, h.Linkname)
	}
	if err := x.make(at, o); err != nil {
		return err
	}
	switch o.Type() {
	case unix.S_IFREG:
		x.result.Size += h.Size
		if err := x.content(at, content, h.Size); err != nil {
			return err
		}
	case unix.S_IFDIR:
		x.laterTimes(at.path(), h)
		return nil
	}
	atime, mtime := times(h)
	return ondisk.SetTimes(at.dirfd, at.name, atime, mtime)
}

// rootEntry sets the root directory's own metadata.
func (x *extractor) rootEntry(h *tar.Header) error {
	o, err := objectOf(h)
	if err != nil {
		return err
	}
	if h.Typeflag != tar.TypeDir {
		return errors.New("the root is not a directory")
	}
	x.rooted = true
	if err := x.replaceMeta(place{dirfd: x.root}, o); err != nil {
		return err
	}
	x.laterTimes("", h)
	return nil
}

// objectOf reads what an entry's header says of its object.
func objectOf(h *tar.Header) (ondisk.Object, error) {
	const maxID = 1<<32 - 2 // the last value means "none" to chown(2)
	if h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID {
		return ondisk.Object{}, fmt.Errorf("owner %d:%d is out of range", h.Uid, h.Gid)
	}
	o := ondisk.Object{Meta: ondisk.Meta{
		UID: uint32(h.Uid), GID: uint32(h.Gid), Mode: uint32(h.Mode & 0o7777),
	}}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse, tar.TypeLink:
		o.Mode |= unix.S_IFREG
		if strings.HasSuffix(h.Name, "/") && h.Typeflag != tar.TypeLink {
			return o, errors.New("a file's name ends in a slash")
		}
	case tar.TypeDir:
		o.Mode |= unix.S_IFDIR
	case tar.TypeSymlink:
		o.Mode |= unix.S_IFLNK
		o.Mode |= 0o777 // no other mode of a symlink exists on Linux
		o.Target = h.Linkname
		if o.Target == "" || len(o.Target) >= unix.PathMax {
			return o, fmt.Errorf("a symlink's target has %d bytes, not 1 to %d", len(o.Target), unix.PathMax-1)
		}
		if strings.IndexByte(o.Target, 0) >= 0 {
			return o, errors.New("a symlink's target holds a NUL byte")
		}
	case tar.TypeFifo:
		o.Mode |= unix.S_IFIFO
	case tar.TypeChar, tar.TypeBlock:
		o.Mode |= unix.S_IFBLK
		if h.Typeflag == tar.TypeChar {
			o.Mode = o.Perm() | unix.S_IFCHR
		}
		dev, ok := ondisk.Device(h.Devmajor, h.Devminor)
		if !ok {
			return o, fmt.Errorf("device number %d:%d is out of range", h.Devmajor, h.Devminor)
		}
		o.Rdev = dev
	default:
		return o, fmt.Errorf("unknown type of entry %q", h.Typeflag)
	}
	for key, value := range h.PAXRecords {
		attr, ok := strings.CutPrefix(key, paxXattr)
		if !ok {
			continue
		}
		if attr == "" {
			return o, errors.New("an extended attribute has no name")
		}
		if o.Xattrs == nil {
			o.Xattrs = make(map[string][]byte)
		}
		o.Xattrs[attr] = []byte(value)
	}
	return o, nil
}

// paxXattr begins the PAX records that hold extended attributes.
const paxXattr = "SCHILY.xattr."

// times gives an entry's times as they go to disk.
func times(h *tar.Header) (atime, mtime unix.Timespec) {
	mtime = sys.Timespec(h.ModTime)
	atime = mtime
	if !h.AccessTime.IsZero() {
		atime = sys.Timespec(h.AccessTime)
	}
	return atime, mtime
}

func (x *extractor) laterTimes(path string, h *tar.Header) {
	atime, mtime := times(h)
	x.times = append(x.times, dirTime{path, atime, mtime})
}

// setDirTimes sets the directories' times once nothing touches them any more.
// One that is new and has no entry got the epoch: unpacking twice gives the same.
func (x *extractor) setDirTimes() error {
	for _, t := range x.times {
		if err := x.setDirTime(t); err != nil {
			return err
		}
	}
	return nil
}

func (x *extractor) setDirTime(t dirTime) error {
	fd := x.root
	if t.path != "" {
		var err error
		fd, err = sys.OpenBeneath(x.root, t.path, unix.O_PATH|unix.O_DIRECTORY, 0)
		switch err {
		case nil:
		case unix.ENOENT, unix.ENOTDIR, unix.ELOOP:
			return nil // a later entry has replaced it
		default:
			return fmt.Errorf("entry %q: set times: %w", clip(t.path), err)
		}
		defer sys.Close(fd)
	}
	if err := ondisk.SetTimes(fd, "", t.atime, t.mtime); err != nil {
		return fmt.Errorf("entry %q: set times: %w", clip(t.path), err)
	}
	return nil
}
