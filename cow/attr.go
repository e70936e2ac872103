package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// nameMax is the longest name of an entry in bytes.
const nameMax = 255

// Attr is what stat shows of a node.
type Attr struct {
	Ino                        uint64
	Size                       int64
	Blocks                     int64 // of 512 bytes
	Atime, Mtime, Ctime, Btime unix.StatxTimestamp
	Mode                       uint32
	Nlink                      uint32
	UID, GID                   uint32
	Rdev                       uint32 // as unix.Mkdev makes it
	Blksize                    uint32
}

// Getattr reads the attributes of a node.
func (f *FS) Getattr(n *Node, out *Attr) error {
	f.tree.RLock()
	defer f.tree.RUnlock()
	return f.attrLocked(n, out)
}

// attrLocked is Getattr with FS.tree held.
func (f *FS) attrLocked(n *Node, out *Attr) error {
	var st unix.Statx_t
	if err := f.statNode(n, &st); err != nil {
		return err
	}
	f.fillAttr(n, &st, out)
	return nil
}

// statNode reads the status of a node's object on disk. Needs FS.tree.
func (f *FS) statNode(n *Node, st *unix.Statx_t) error {
	fd, name, done, err := f.reach(n)
	if err != nil {
		return err
	}
	err = sys.Stat(fd, name, st)
	done.put()
	return err
}

// pinned remembers which descriptor reach took.
type pinned struct {
	c  *fdCache
	e  *fdEntry
	fd int
}

func (p pinned) put() { p.c.put(p.e, p.fd) }

// reach pins a descriptor from which a node's object can be addressed: its
// directory and name, or itself and the empty name if it has lost its last
// name. The caller must put the result. Needs FS.tree.
func (f *FS) reach(n *Node) (fd int, name string, p pinned, err error) {
	if n.flags&flagNameless != 0 {
		e := f.orphanEntry(n)
		fd, err = f.fds.get(e, noOpener{})
		return fd, "", pinned{f.fds, e, fd}, err
	}
	w := n.where()
	fd, err = f.use(w.dir)
	return fd, w.name, pinned{f.fds, &w.dir.fd, fd}, err
}

// noOpener is the opener of an entry that cannot be opened again.
type noOpener struct{}

func (noOpener) openFD() (int, error) { return -1, unix.ESTALE }

// Ino is a node's inode number, as attributes show it.
func (f *FS) Ino(n *Node) uint64 {
	f.tree.RLock()
	defer f.tree.RUnlock()
	return n.ino
}

// fillAttr turns the status on disk into what the union shows.
func (f *FS) fillAttr(n *Node, st *unix.Statx_t, out *Attr) {
	*out = Attr{
		Ino: n.ino, Size: int64(st.Size), Blocks: int64(st.Blocks),
		Atime: st.Atime, Mtime: st.Mtime, Ctime: st.Ctime, Btime: st.Btime,
		Mode: n.meta.Mode, Nlink: st.Nlink, UID: n.meta.UID, GID: n.meta.GID,
		Rdev: n.meta.Rdev, Blksize: st.Blksize,
	}
	switch n.meta.Type() {
	case unix.S_IFDIR:
		out.Nlink = f.dirNlink(n, st)
	case unix.S_IFREG:
		if n.flags&flagPartly != 0 {
			f.partlyAttr(n, out)
		}
	case unix.S_IFLNK:
	default:
		out.Size, out.Blocks = 0, 0
	}
	if n.flags&flagIndexed != 0 {
		out.Nlink = uint32(max(0, int32(st.Nlink)+n.nlink))
	}
	if n.flags&flagDeleted != 0 {
		out.Nlink = 0
	}
}

// dirNlink counts 2 and one for each subdirectory, as most filesystems do. A
// directory that merges nothing has that number on disk, unless its
// filesystem does not count either. Locks n.dir.mu.
func (f *FS) dirNlink(n *Node, st *unix.Statx_t) uint32 {
	n.dir.mu.Lock()
	defer n.dir.mu.Unlock()
	switch d := n.dir; {
	case f.cfg.StaticNlink:
		return 1
	case n.flags&flagDeleted != 0:
		return 0
	case d.loaded || d.counted:
		return uint32(2 + d.subdirs)
	case len(d.stack) == 1:
		return st.Nlink
	case f.countSubdirs(n, st):
		return uint32(2 + d.subdirs)
	case len(d.stack) == 1: // it is opaque
		return st.Nlink
	}
	// Counting needs the merged listing, which whoever asks for a directory's
	// attributes mostly wants next. Where it cannot be read, 1 says "not
	// counted", as in overlayfs.
	if err := f.load(n); err != nil {
		return 1
	}
	return uint32(2 + n.dir.subdirs)
}

// Statfs describes the filesystem that takes the changes, or the topmost
// layer's if there is none.
func (f *FS) Statfs(out *unix.Statfs_t) error {
	root := f.layers[0].root
	fd, err := f.use(root)
	if err != nil {
		return err
	}
	defer f.done(root, fd)
	return sys.Retry(func() error { return unix.Fstatfs(fd, out) })
}
