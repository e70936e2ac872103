package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// smallFile is the size up to which a regular file is copied whole: below it a
// copy costs less than the records that would spare it.
const smallFile = 128 << 10

// ensureUpperDir makes sure that the directory n exists in the upper, and its
// parents with it, and gives its reference there. Needs FS.tree exclusively.
func (f *FS) ensureUpperDir(n *Node) (*dirRef, error) {
	if up := f.upperDir(n); up != nil {
		return up, nil
	}
	if n.parent == nil || n.flags&flagDeleted != 0 {
		return nil, unix.ENOENT
	}
	parent, err := f.ensureUpperDir(n.parent)
	if err != nil {
		return nil, err
	}
	lower := n.dir.top
	lfd, err := f.use(lower)
	if err != nil {
		return nil, err
	}
	defer f.done(lower, lfd)
	xattrs, err := readXattrs(n.layer(), lfd, "")
	if err != nil {
		return nil, err
	}
	var st unix.Statx_t
	if err := sys.Stat(lfd, "", &st); err != nil {
		return nil, err
	}
	stage := f.work.stageName()
	if err := f.makeObject(f.work.staging, stage, ondisk.Object{Meta: n.meta, Xattrs: xattrs}); err != nil {
		return nil, err
	}
	err = f.recordOrigin(stage, origin{ino: n.ino, state: stateFull})
	if err == nil {
		err = setTimes(f.work.staging, stage, &st)
	}
	if err == nil {
		err = sys.Stat(f.work.staging, stage, &st)
	}
	if err == nil {
		err = f.publish(stage, parent, n.ent.name)
	}
	if err != nil {
		f.work.discard(stage)
		return nil, err
	}
	n.ent.setParts(append([]*dirRef{n.ent.owner}, n.ent.parts()...))
	n.ent.owner, n.ent.ino, n.ent.below = parent, st.Ino, true
	up := parent.sub(f.fds, n.ent.name)
	n.dir.top, n.dir.stack = up, append([]*dirRef{up}, n.dir.stack...)
	n.backIno = unionIno(f.upper, st.Ino)
	if len(xattrs) > 0 {
		f.readFlags(n)
	}
	return up, nil
}

// recordOrigin writes an origin record, where the object can carry one.
func (f *FS) recordOrigin(stage string, o origin) error {
	if err := f.writeOrigin(f.work.staging, stage, o); !f.cannotCarry(err) {
		return err
	}
	return nil
}

// recordLinksApart is recordApart for a staged object.
func (f *FS) recordLinksApart(stage string, r apartRecord) error {
	var st unix.Statx_t
	if err := sys.Stat(f.work.staging, stage, &st); err != nil {
		return err
	}
	return f.recordApart(st.Ino, r)
}

// cannotCarry tells whether an error of writeOrigin says that the object can
// have no attributes.
func (f *FS) cannotCarry(err error) bool {
	return err == unix.EOPNOTSUPP || err == unix.EPERM && f.upper.owners == OwnersReal
}

// setTimes gives an object the access and modification times of another.
func setTimes(dirfd int, name string, st *unix.Statx_t) error {
	return ondisk.SetTimes(dirfd, name, timespec(st.Atime), timespec(st.Mtime))
}

func timespec(t unix.StatxTimestamp) unix.Timespec {
	return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
}

// publish moves a staged copy to its name in an upper directory, where nothing
// of that name is yet. The directory's times stay, if that can be: a copy-up is
// no change that anybody made to it.
func (f *FS) publish(stage string, dir *dirRef, name string) error {
	fd, err := f.use(dir)
	if err != nil {
		return err
	}
	defer f.done(dir, fd)
	var st unix.Statx_t
	if err := sys.Stat(fd, "", &st); err != nil {
		return err
	}
	if err := f.renameStaged(stage, fd, name); err != nil {
		return err
	}
	_ = setTimes(fd, "", &st) // the copy is in its place all the same
	return nil
}

// statPlace reads the status of an object on disk.
func (f *FS) statPlace(dir *dirRef, name string, st *unix.Statx_t) error {
	fd, err := f.use(dir)
	if err != nil {
		return err
	}
	defer f.done(dir, fd)
	return sys.Stat(fd, name, st)
}

// copyUp makes sure that n is in the upper, without its content if the caller is
// about to cut all of it off. Needs FS.tree exclusively.
func (f *FS) copyUp(n *Node, keep bool) error {
	if f.ReadOnly() {
		return unix.EROFS
	}
	if f.inUpper(n) {
		return nil
	}
	if n.dir != nil {
		if n.flags&flagDeleted != 0 {
			return f.copyUpRemoved(n)
		}
		_, err := f.ensureUpperDir(n)
		return err
	}
	var parent *dirRef
	if n.flags&flagDeleted == 0 {
		var err error
		if parent, err = f.ensureUpperDir(n.parent); err != nil {
			return err
		}
	}
	c := f.newCopyJob(n, keep)
	err := c.stageCopy()
	if err == nil {
		err = c.finish(parent)
	}
	if err != nil {
		c.abort()
	}
	return err
}

// copyUpApart copies a large file up whole without holding FS.tree over the
// copy, which may take seconds: all that it reads is in the lower layer.
func (f *FS) copyUpApart(n *Node) error {
	f.largeCopy.Lock()
	defer f.largeCopy.Unlock()
	f.tree.RLock()
	if f.inUpper(n) {
		f.tree.RUnlock()
		return nil
	}
	c := f.newCopyJob(n, true)
	f.tree.RUnlock()
	if err := c.stageCopy(); err != nil {
		c.abort()
		return err
	}
	f.tree.Lock()
	defer f.tree.Unlock()
	if f.inUpper(n) { // by a change of its metadata meanwhile
		c.abort()
		return nil
	}
	var parent *dirRef
	var err error
	if n.flags&flagDeleted == 0 {
		parent, err = f.ensureUpperDir(n.parent)
	}
	if err == nil {
		err = c.finish(parent)
	}
	if err != nil {
		c.abort()
	}
	return err
}

// copiesApart tells whether the content of n should be copied up by
// copyUpApart before a change that keeps it. Needs FS.tree.
func (f *FS) copiesApart(n *Node) bool {
	if f.cfg.CopyUp != CopyUpFull || f.ReadOnly() || f.inUpper(n) || n.meta.Type() != unix.S_IFREG {
		return false
	}
	var st unix.Statx_t
	return f.statNode(n, &st) == nil && st.Size > smallFile
}

// copyUpBefore copies a large file up by copyUpApart, if it is one that will have
// to be in the upper whole. It must be called without FS.tree.
func (f *FS) copyUpBefore(n *Node) error {
	if f.cfg.CopyUp != CopyUpFull {
		return nil
	}
	f.tree.RLock()
	apart := f.copiesApart(n)
	f.tree.RUnlock()
	if !apart {
		return nil
	}
	return f.copyUpApart(n)
}

// copyUpNamed is copyUpBefore for a name, if its node is known and when allows.
func (f *FS) copyUpNamed(dir *Node, name string, when func(*Node) bool) error {
	if f.cfg.CopyUp != CopyUpFull {
		return nil
	}
	f.tree.RLock()
	dir.dir.mu.Lock()
	var n *Node
	if dir.dir.loaded {
		if ent := dir.dir.find(name); ent != nil && ent.node != nil && when(ent.node) {
			n = ent.node
			n.refs.Add(1)
		}
	}
	dir.dir.mu.Unlock()
	f.tree.RUnlock()
	if n == nil {
		return nil
	}
	defer f.Forget(n, 1)
	return f.copyUpBefore(n)
}

// linkAt gives the upper object at p a further name, without a change of the
// directory's times if that can be.
func (f *FS) linkAt(p place, dir *dirRef, name string) error {
	pfd, err := f.use(p.dir)
	if err != nil {
		return err
	}
	defer f.done(p.dir, pfd)
	fd, err := f.use(dir)
	if err != nil {
		return err
	}
	defer f.done(dir, fd)
	var st unix.Statx_t
	if err := sys.Stat(fd, "", &st); err != nil {
		return err
	}
	if err := f.lift(fd, "", func() error { return unix.Linkat(pfd, p.name, fd, name, 0) }); err != nil {
		return err
	}
	_ = setTimes(fd, "", &st)
	return nil
}

// unlinkAt takes a name in an upper directory back that a failed change made.
func (f *FS) unlinkAt(dir *dirRef, name string) {
	if fd, err := f.use(dir); err == nil {
		_ = f.lift(fd, "", func() error { return unix.Unlinkat(fd, name, 0) })
		f.done(dir, fd)
	}
}
