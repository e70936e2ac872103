package cow

import (
	"strconv"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// SetAttr says which attributes to change; nil leaves one as it is.
type SetAttr struct {
	Mode         *uint32 // permission bits
	UID, GID     *uint32
	Size         *int64
	Atime, Mtime *unix.Timespec // Nsec may be unix.UTIME_NOW
	// Kill clears set-id bits, as for a change without the privilege to keep
	// them.
	Kill bool
	// KillPriv is what a chown that changes nothing sends, which clears set-id
	// bits, and what a write to a file with capabilities sends after it has
	// removed these, which does not (see capTalk).
	KillPriv bool
	// KillGroup makes KillPriv clear the set-group-id bit even where the group
	// may not execute the file.
	KillGroup bool
}

// Setattr changes attributes and gives the result.
func (f *FS) Setattr(n *Node, s SetAttr, out *Attr) error {
	if s.Size != nil {
		if err := f.truncate(n, *s.Size, s.Kill); err != nil {
			return err
		}
	}
	if s.changesMeta() {
		if err := f.copyUpBefore(n); err != nil {
			return err
		}
	}
	f.tree.Lock()
	defer f.tree.Unlock()
	if f.capTalk.end(n) && s.KillPriv {
		s.KillPriv = false // the capabilities of a file that is being written are gone already
	}
	if s.changesMeta() {
		if err := f.copyUp(n, true); err != nil {
			return err
		}
	}
	if s.Mode != nil || s.UID != nil || s.GID != nil || s.Kill || s.KillPriv {
		if err := f.setMode(n, s); err != nil {
			return err
		}
	}
	if s.Atime != nil || s.Mtime != nil {
		if err := f.setNodeTimes(n, s.Atime, s.Mtime); err != nil {
			return err
		}
	}
	if out == nil {
		return nil
	}
	return f.attrLocked(n, out)
}

// changesMeta tells whether something but the size is to be changed.
func (s *SetAttr) changesMeta() bool {
	return s.Mode != nil || s.UID != nil || s.GID != nil || s.Atime != nil || s.Mtime != nil || s.Kill || s.KillPriv
}

// setMode changes owner and permission bits. Needs FS.tree exclusively; n is
// in the upper.
func (f *FS) setMode(n *Node, s SetAttr) error {
	m := n.meta
	quiet := s.Mode == nil && s.UID == nil && s.GID == nil && !s.KillPriv
	if s.KillPriv {
		s.Kill = true
		if s.KillGroup {
			m.Mode &^= unix.S_ISGID
		}
	}
	if s.Kill || s.UID != nil || s.GID != nil {
		// A directory keeps what would be privileges of a file, as on ext4.
		if n.flags&flagCap != 0 && n.dir == nil {
			if err := f.removeXattr(n, capXattr); err != nil && err != unix.ENODATA {
				return err
			}
			n.flags &^= flagCap
		}
	}
	if s.Kill {
		m.Mode &^= killsBits(m.Mode)
	}
	if s.UID != nil {
		m.UID = *s.UID
	}
	if s.GID != nil {
		m.GID = *s.GID
	}
	if s.Mode != nil {
		m.Mode = m.Type() | *s.Mode&0o7777
		if n.flags&flagACL != 0 {
			if err := f.chmodACL(n, m.Mode); err != nil {
				return err
			}
		}
	}
	if quiet && m == n.meta {
		return nil // a truncation that found no bits to clear
	}
	return f.changeMeta(n, m)
}

// changeMeta records metadata on disk and in the node. Needs FS.tree
// exclusively; n is in the upper.
func (f *FS) changeMeta(n *Node, m ondisk.Meta) error {
	if err := f.needPlaceholder(n, m.Type() == unix.S_IFLNK && !m.Plain()); err != nil {
		return err
	}
	fd, name, p, err := f.reach(n)
	if err != nil {
		return err
	}
	defer p.put()
	if err := f.setMeta(fd, name, m); err != nil {
		return err
	}
	n.meta = m
	return nil
}

// needPlaceholder turns a real symlink of an upper with stored owners into a
// placeholder, if cond says that it must carry attributes from now on. Needs
// FS.tree exclusively.
func (f *FS) needPlaceholder(n *Node, cond bool) error {
	if !cond || n.meta.Type() != unix.S_IFLNK || f.upper.owners != OwnersStored {
		return nil
	}
	if n.flags&flagNameless != 0 {
		return unix.EOPNOTSUPP
	}
	w := n.where()
	fd, err := f.use(w.dir)
	if err != nil {
		return err
	}
	defer f.done(w.dir, fd)
	var st unix.Statx_t
	if err := sys.Stat(fd, w.name, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return nil
	}
	if st.Nlink > 2 || st.Nlink == 2 && !f.isKept(st.Ino, n.ino) {
		return unix.EOPNOTSUPP // its other names would stay what they are
	}
	o := ondisk.Object{Meta: n.meta}
	if o.Target, err = sys.Readlink(fd, w.name); err != nil {
		return err
	}
	stage := f.work.stageName()
	err = ondisk.CreatePlaceholder(f.work.staging, stage, o)
	if err == nil {
		err = f.recordOrigin(stage, origin{ino: n.ino, state: stateFull})
	}
	if err == nil && n.ino == n.backIno {
		err = f.keepInode(fd, w.name, n.ino)
	}
	if err == nil {
		err = ondisk.MarkPlaceholders(fd)
	}
	if err == nil {
		err = setTimes(f.work.staging, stage, &st)
	}
	var dst unix.Statx_t
	if err == nil {
		err = sys.Stat(fd, "", &dst)
	}
	if err == nil {
		err = sys.Rename(f.work.staging, stage, fd, w.name, 0)
	}
	if err != nil {
		f.work.discard(stage)
		if n.ino == n.backIno {
			f.unlinkAt(f.work.index, keptName(n.ino))
		}
		return err
	}
	if err := sys.Stat(fd, w.name, &st); err != nil {
		return err
	}
	n.backIno = unionIno(f.upper, st.Ino)
	n.ent.ino = st.Ino
	return setTimes(fd, "", &dst)
}

// keepInode links a symlink into the index before a placeholder takes its
// place, which goes on to show its inode number: the disk must not give that
// out again. Needs FS.tree exclusively.
func (f *FS) keepInode(dirfd int, name string, ino uint64) error {
	fd, err := f.use(f.work.index)
	if err != nil {
		return err
	}
	defer f.done(f.work.index, fd)
	err = unix.Linkat(dirfd, name, fd, keptName(ino), 0)
	if err == unix.EEXIST {
		return nil
	}
	return err
}

// isKept tells whether the index has a link to the symlink with the number disk,
// from a change that was cut off.
func (f *FS) isKept(disk, ino uint64) bool {
	var st unix.Statx_t
	return f.statPlace(f.work.index, keptName(ino), &st) == nil && st.Ino == disk
}

// dropKept undoes keepInode when the placeholder n is gone, and recordApart.
func (f *FS) dropKept(n *Node) {
	if t := n.meta.Type(); n.ino == n.backIno || t == unix.S_IFREG || t == unix.S_IFDIR {
		return
	}
	if f.upper.owners != OwnersStored {
		f.dropApart(n.backIno)
		return
	}
	if n.meta.Type() != unix.S_IFLNK {
		return
	}
	if fd, err := f.use(f.work.index); err == nil {
		_ = unix.Unlinkat(fd, keptName(n.ino), 0)
		f.done(f.work.index, fd)
	}
}

func keptName(ino uint64) string { return "kept-" + strconv.FormatUint(ino, 16) }

// setNodeTimes sets the times that are not nil. Needs FS.tree exclusively.
func (f *FS) setNodeTimes(n *Node, atime, mtime *unix.Timespec) error {
	fd, name, p, err := f.reach(n)
	if err != nil {
		return err
	}
	defer p.put()
	omit := unix.Timespec{Nsec: unix.UTIME_OMIT}
	if atime == nil {
		atime = &omit
	}
	if mtime == nil {
		mtime = &omit
	}
	return ondisk.SetTimes(fd, name, *atime, *mtime)
}

// truncate changes the size of a regular file.
func (f *FS) truncate(n *Node, size int64, kill bool) error {
	if size < 0 {
		return unix.EINVAL
	}
	c, err := f.openForChange(n, size > 0, kill)
	if err != nil {
		return err
	}
	defer c.put()
	if c.part != nil {
		defer f.markDirty(n)
		return c.part.truncate(f, c.fd, size)
	}
	return sys.Retry(func() error { return unix.Ftruncate(c.fd, size) })
}

// Readlink gives the target of a symlink.
func (f *FS) Readlink(n *Node) (string, error) {
	if n.meta.Type() != unix.S_IFLNK {
		return "", unix.EINVAL
	}
	f.tree.RLock()
	defer f.tree.RUnlock()
	fd, name, p, err := f.reach(n)
	if err != nil {
		return "", err
	}
	defer p.put()
	return readTarget(fd, name)
}

// InodeFlags reads the flags that chattr(1) shows of an object on disk.
func (f *FS) InodeFlags(n *Node) (uint32, error) {
	if t := n.meta.Type(); t != unix.S_IFREG && t != unix.S_IFDIR {
		return 0, unix.ENOTTY
	}
	f.tree.RLock()
	defer f.tree.RUnlock()
	if n.dir != nil {
		fd, err := f.use(n.dir.top)
		if err != nil {
			return 0, err
		}
		defer f.done(n.dir.top, fd)
		return unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	}
	c, err := f.open(n)
	if err != nil {
		return 0, err
	}
	defer c.put()
	return unix.IoctlGetUint32(c.fd, unix.FS_IOC_GETFLAGS)
}
