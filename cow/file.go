package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// fileState is what a node needs while its content, or a node without a name,
// is in use.
type fileState struct {
	fd   fdEntry // of the object: for writing too if it is in the upper
	part *partly // set if content is partly in a lower layer
}

// fileOf gives n's file state, making it on first use.
func (f *FS) fileOf(n *Node) *fileState {
	f.linkMu.Lock()
	defer f.linkMu.Unlock()
	return f.fileLocked(n)
}

// fileLocked is fileOf with linkMu held, or for a node that nobody else has seen
// yet.
func (f *FS) fileLocked(n *Node) *fileState {
	if n.file == nil {
		n.file = &fileState{}
	}
	return n.file
}

// releaseFile closes what a dropped node has open.
func (f *FS) releaseFile(n *Node) {
	f.fds.drop(&n.file.fd)
	if p := n.file.part; p != nil {
		if n.flags&flagDeleted != 0 && p.m != nil && !f.ReadOnly() {
			// The file that the map belongs to is gone.
			_ = unix.Unlinkat(f.work.maps, p.m.id, 0)
		}
		p.close(f)
	}
}

// fileOpener opens a node's content.
type fileOpener struct {
	f *FS
	n *Node
}

// openFD opens the content: in the upper for writing too, in a lower layer
// without a trace in the access time. Needs FS.tree.
func (o fileOpener) openFD() (int, error) {
	w := o.n.back
	fd, err := o.f.use(w.dir)
	if err != nil {
		return -1, err
	}
	defer o.f.done(w.dir, fd)
	return o.f.fds.room(func() (int, error) {
		if o.f.inUpper(o.n) && !o.f.cfg.Observe {
			return o.f.openUpper(fd, w.name)
		}
		return openLower(fd, w.name)
	})
}

// openUpper opens a file of the upper for reading and writing. The kernel has
// checked that the caller may, by the union's modes; that real modes on disk
// shut out the server, if it is not root, is no reason to refuse.
func (f *FS) openUpper(dirfd int, name string) (int, error) {
	fd := -1
	err := f.lift(dirfd, name, func() (err error) {
		flags := unix.O_RDWR | f.atimeFlag()
		fd, err = sys.Open(dirfd, name, flags, 0)
		if err == unix.EPERM && flags != unix.O_RDWR { // somebody else's file
			fd, err = sys.Open(dirfd, name, unix.O_RDWR, 0)
		}
		return err
	})
	if err != nil {
		if fd >= 0 {
			sys.Close(fd)
		}
		return -1, err
	}
	return fd, nil
}

// atimeFlag is what a file of the upper is opened with for Config.NoAtime.
func (f *FS) atimeFlag() int {
	if f.cfg.NoAtime {
		return unix.O_NOATIME
	}
	return 0
}

// openLower opens a file of a layer for reading and leaves its access time
// alone where the kernel allows that, which it does for the owner.
func openLower(dirfd int, name string) (int, error) {
	fd, err := sys.Open(dirfd, name, unix.O_RDONLY|unix.O_NOATIME|unix.O_NONBLOCK, 0)
	if err == unix.EPERM {
		fd, err = sys.Open(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	return fd, err
}

// content is a pinned view of a regular file's content.
type content struct {
	pinned
	part *partly
}

// open pins the content of n. The caller must put it. Needs FS.tree, which may
// be released before the content is used.
func (f *FS) open(n *Node) (c content, err error) {
	switch n.meta.Type() {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return c, unix.EISDIR
	default:
		return c, unix.EINVAL
	}
	file := f.fileOf(n)
	var o opener = noOpener{}
	if n.flags&flagNameless == 0 {
		o = fileOpener{f, n}
	}
	fd, err := f.fds.get(&file.fd, o)
	if err != nil {
		return c, err
	}
	return content{pinned{f.fds, &file.fd, fd}, file.part}, nil
}

// orphanEntry is where the descriptor of a nameless node is.
func (f *FS) orphanEntry(n *Node) *fdEntry { return &f.fileOf(n).fd }

// holdNameless keeps fd as the only way to n, which has no name on disk any
// more. Needs FS.tree exclusively.
func (f *FS) holdNameless(n *Node, fd int) {
	f.fds.pin(&f.fileOf(n).fd, fd)
	n.flags |= flagNameless
	f.orphans[n] = struct{}{}
}

// makeNameless opens n before its last name on disk goes. Needs FS.tree
// exclusively.
func (f *FS) makeNameless(n *Node) error {
	if n.flags&flagNameless != 0 {
		return nil
	}
	if n.meta.Type() == unix.S_IFREG && n.file != nil {
		// What is open already need not be opened again.
		if _, err := f.fds.get(&n.file.fd, noOpener{}); err == nil {
			n.flags |= flagNameless
			f.orphans[n] = struct{}{}
			return nil
		}
	}
	w := n.where()
	dfd, err := f.use(w.dir)
	if err != nil {
		return err
	}
	defer f.done(w.dir, dfd)
	open := func() (int, error) {
		if n.meta.Type() == unix.S_IFREG {
			return f.openUpper(dfd, w.name)
		}
		return sys.Open(dfd, w.name, unix.O_PATH, 0)
	}
	fd, err := f.fds.room(open)
	if err != nil {
		return err
	}
	f.holdNameless(n, fd)
	return nil
}

// readFlags looks again at which attributes of an upper node matter to the
// union. Needs FS.tree exclusively.
func (f *FS) readFlags(n *Node) {
	fd, name, p, err := f.reach(n)
	if err != nil {
		return
	}
	defer p.put()
	names, err := sys.Listxattr(fd, name)
	if err != nil {
		return
	}
	n.flags &^= flagCap | flagACL
	for _, attr := range names {
		switch attr {
		case capXattr, storedCap:
			n.flags |= flagCap
		case accessACL, storedAccessACL:
			n.flags |= flagACL
		}
	}
}
