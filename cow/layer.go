package cow

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// dirRef is one directory of one layer. Below the root it is found through its
// parent and name, so that moving a directory moves all that is below it.
type dirRef struct {
	layer  *layer
	parent *dirRef // nil: the layer's root; guarded by FS.tree
	name   string  // guarded by FS.tree
	fd     fdEntry
	fs     *fdCache // nil for roots, whose descriptor is pinned
	// anchored says that the descriptor is pinned and the only way: see anchor.
	anchored bool
	block    atomic.Uint32 // its place in the layer's catalog: see catalogued
	dev      atomic.Uint64 // the filesystem that it is on, if that may be another than the layer's; 0: not known
}

// sub refers to the directory name in d, without looking whether it exists.
func (d *dirRef) sub(c *fdCache, name string) *dirRef {
	return &dirRef{layer: d.layer, parent: d, name: name, fs: c}
}

// openFD opens the directory through its parent.
func (d *dirRef) openFD() (int, error) {
	pfd, err := d.fs.get(&d.parent.fd, d.parent)
	if err != nil {
		return -1, err
	}
	defer d.fs.put(&d.parent.fd, pfd)
	fd, err := d.fs.room(func() (int, error) { return d.layer.openDir(pfd, d.name) })
	if err == nil && d.layer.mounts {
		d.noteDev(fd)
	}
	return fd, err
}

// noteDev notes which filesystem an open directory is on.
func (d *dirRef) noteDev(fd int) {
	var st unix.Stat_t
	if d.dev.Load() != 0 || unix.Fstat(fd, &st) != nil {
		return
	}
	if st.Dev != d.layer.dev {
		if _, known := d.layer.inos.space(st.Dev); !known {
			d.layer.inos.meet(st.Dev, fd)
		}
	}
	d.dev.Store(st.Dev)
}

// openDir opens a directory of the layer; listing it leaves no trace in the
// access time of one that must not change, where the kernel allows that.
func (l *layer) openDir(pfd int, name string) (fd int, err error) {
	fd = -1
	open := func() (err error) {
		if l.quiet {
			fd, err = sys.Open(pfd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
			if err != unix.EPERM {
				return err
			}
		}
		fd, err = sys.OpenDir(pfd, name)
		return err
	}
	if l.lift == nil {
		err = open()
	} else {
		err = l.lift(pfd, name, open)
	}
	if err != nil && fd >= 0 {
		sys.Close(fd)
		fd = -1
	}
	return fd, err
}

// use pins the directory's descriptor; the caller must call done.
func (f *FS) use(d *dirRef) (int, error) { return f.fds.get(&d.fd, d) }

// done gives back what use gave.
func (f *FS) done(d *dirRef, fd int) { f.fds.put(&d.fd, fd) }

// dropRef closes a directory's descriptor unless it is pinned for good.
func (f *FS) dropRef(d *dirRef) {
	if d.parent != nil && !d.anchored {
		f.fds.drop(&d.fd)
	}
}

// place is where a node's object lies: a name in a directory of a layer. The
// root of a layer is its own directory with the empty name.
type place struct {
	dir  *dirRef
	name string
}

// place gives the directory as an object in its parent.
func (d *dirRef) place() place {
	if d.parent == nil || d.anchored {
		return place{d, ""}
	}
	return place{d.parent, d.name}
}

// path is the directory's path in its layer, "." for the root; for records on
// disk and messages only. Needs FS.tree.
func (d *dirRef) path() string {
	if d.parent == nil {
		return "."
	}
	if up := d.parent.path(); up != "." {
		return up + "/" + d.name
	}
	return d.name
}

// objectInfo is what one look at a backing object tells.
type objectInfo struct {
	meta ondisk.Meta
	marks
}

// marks are mica's own notes on an upper object.
type marks struct {
	hasCap   bool // a security.capability is set
	hasACL   bool // an access ACL is set
	origin   bool // an origin record is there
	redirect bool // a redirect record is there
	nlink    bool // a link count record is there
}

// look reads the status and the metadata of an object of layer l. Attributes
// other than the override matter only in the upper: marks has no use for
// lower objects.
func (f *FS) look(l *layer, dirfd int, name string, st *unix.Statx_t) (info objectInfo, err error) {
	stat := sys.Stat
	if l == f.upper {
		stat = f.statUpper
	}
	if err := stat(dirfd, name, st); err != nil {
		return info, err
	}
	info.meta = ondisk.Meta{Mode: uint32(st.Mode), Rdev: uint32(unix.Mkdev(st.Rdev_major, st.Rdev_minor))}
	if l.owners == OwnersReal {
		info.meta.UID, info.meta.GID = st.Uid, st.Gid
	}
	diskType := uint32(st.Mode) & unix.S_IFMT
	if diskType == unix.S_IFLNK || l != f.upper && diskType != unix.S_IFREG && diskType != unix.S_IFDIR {
		return info, nil // a FIFO, socket or device can have an ACL, and nothing else of interest
	}
	if l != f.upper {
		m, err := override(dirfd, name, info.meta)
		if err == unix.EACCES && l.owners == OwnersReal {
			return info, nil // nobody but root would have written one
		}
		info.meta = m
		return info, err
	}
	names, err := sys.Listxattr(dirfd, name)
	if err == unix.EOPNOTSUPP {
		return info, nil
	}
	if err != nil {
		return info, err
	}
	for _, attr := range names {
		switch attr {
		case ondisk.OverrideXattr:
			m := info.meta
			if err := f.lift(dirfd, name, func() (err error) {
				info.meta, err = override(dirfd, name, m)
				return err
			}); err != nil {
				return info, err
			}
		case capXattr, storedCap:
			info.hasCap = true
		case accessACL, storedAccessACL:
			info.hasACL = true
		case originXattr:
			info.origin = true
		case redirectXattr:
			info.redirect = true
		case nlinkXattr:
			info.nlink = true
		}
	}
	return info, nil
}

// override replaces m, which the disk says, by what the object's override
// says, if there is one.
func override(dirfd int, name string, m ondisk.Meta) (ondisk.Meta, error) {
	var buf [96]byte
	n, err := sys.Getxattr(dirfd, name, ondisk.OverrideXattr, buf[:])
	switch err {
	case nil:
		return ondisk.ParseOverride(string(buf[:n]), m.Type())
	case unix.ENODATA, unix.EOPNOTSUPP:
		return m, nil
	}
	return m, err
}
