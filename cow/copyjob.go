package cow

import (
	"strconv"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// copyJob is one copy-up of something that is not a directory.
type copyJob struct {
	f     *FS
	n     *Node
	stage string
	keep  bool // the content is wanted

	// The lower object. It does not change, so a copy can be made of it while
	// others go on.
	lower place
	layer *layer
	meta  ondisk.Meta
	many  bool // it has several names

	st   unix.Statx_t // of the lower object
	part *partly      // set if the copy leaves content below
	boot bool         // the copy is complete, but neither it nor its record is synced

	apart bool // the copy cannot carry its record
}

// newCopyJob prepares a copy-up. Needs FS.tree.
func (f *FS) newCopyJob(n *Node, keep bool) *copyJob {
	return &copyJob{
		f: f, n: n, stage: f.work.stageName(), keep: keep,
		lower: n.back, layer: n.layer(), meta: n.meta, many: n.flags&flagLinked != 0,
	}
}

// stageCopy makes the copy in staging.
func (c *copyJob) stageCopy() error {
	f, lower := c.f, c.lower
	lfd, err := f.use(lower.dir)
	if err != nil {
		return err
	}
	defer f.done(lower.dir, lfd)
	if err := sys.Stat(lfd, lower.name, &c.st); err != nil {
		return err
	}
	o := ondisk.Object{Meta: c.meta}
	if o.Xattrs, err = readXattrs(c.layer, lfd, lower.name); err != nil {
		return err
	}
	org := origin{ino: c.n.ino, state: stateFull}
	switch c.meta.Type() {
	case unix.S_IFREG:
		if err := f.makeRegular(f.work.staging, c.stage, o); err != nil {
			return err
		}
		if org, err = c.stageContent(lfd, lower, org); err != nil {
			return err
		}
		// Not earlier: what is written to loses its capabilities, and its set-id bits where this process is not the
		// machine's root.
		if err := f.dressRegular(f.work.staging, c.stage, o); err != nil {
			return err
		}
	default:
		if c.meta.Type() == unix.S_IFLNK {
			if o.Target, err = readTarget(lfd, lower.name); err != nil {
				return err
			}
		}
		if err := f.makeStable(f.work.staging, c.stage, o); err != nil {
			return err
		}
	}
	err = f.writeOrigin(f.work.staging, c.stage, org)
	if c.apart = f.cannotCarry(err); err != nil && !c.apart {
		return err
	}
	if c.many && c.st.Nlink > 1 {
		// The record counts from the link that this copy has, in the index.
		delta := int(c.st.Nlink) - 1
		err := f.setRecord(f.work.staging, c.stage, nlinkXattr, strconv.Itoa(delta))
		if f.cannotCarry(err) {
			err = f.recordLinksApart(c.stage, apartRecord{ino: c.n.ino, nlink: int32(delta), many: true})
		}
		if err != nil {
			return err
		}
	}
	return setTimes(f.work.staging, c.stage, &c.st)
}

// makeRegular makes an empty regular file, which dressRegular completes.
func (f *FS) makeRegular(dirfd int, name string, o ondisk.Object) error {
	if f.upper.owners == OwnersStored {
		return ondisk.Create(dirfd, name, o)
	}
	fd, err := sys.Open(dirfd, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, o.Perm()|0o600)
	if err != nil {
		return err
	}
	sys.Close(fd)
	return nil
}

// dressRegular gives a file that makeRegular has made what does not come with its making.
func (f *FS) dressRegular(dirfd int, name string, o ondisk.Object) error {
	if f.upper.owners == OwnersStored {
		return nil
	}
	return f.dressReal(dirfd, name, o)
}

// makeStable makes an object that can carry an origin record, where the upper
// has a spelling of it that can: a symlink becomes a placeholder.
func (f *FS) makeStable(dirfd int, name string, o ondisk.Object) error {
	if f.upper.owners == OwnersStored && o.Type() == unix.S_IFLNK {
		return ondisk.CreatePlaceholder(dirfd, name, o)
	}
	return f.makeObject(dirfd, name, o)
}

// stageContent copies as much content as the file's size and the mode of the
// union ask for, and says in the origin record what was left.
func (c *copyJob) stageContent(lfd int, lower place, org origin) (origin, error) {
	f, size := c.f, int64(c.st.Size)
	if size == 0 || !c.keep {
		// No content to lose, but the first sync has to cover the name.
		c.boot = f.cfg.CopyUp == CopyUpBlocks
		return org, nil
	}
	whole := size <= smallFile || f.cfg.CopyUp == CopyUpFull
	org.layer, org.size, org.path = f.bottomIndex(c.layer), size, lower.path()
	dst, err := f.openUpper(f.work.staging, c.stage)
	if err != nil {
		return org, err
	}
	defer sys.Close(dst)
	src, err := openLower(lfd, lower.name)
	if err != nil {
		return org, err
	}
	defer sys.Close(src)
	if !whole && sys.Reflink(dst, src) == nil {
		whole, c.boot = true, true
	} else if whole {
		if err := sys.CopyData(dst, src, size); err != nil {
			return org, err
		}
		c.boot = true
	}
	if whole {
		org.state, org.arg = stateBoot, f.work.boot
		if f.cfg.CopyUp == CopyUpFull || f.cfg.Volatile || len(org.path) > maxRecordPath {
			// Nothing in the record could bring the old content back: it has
			// to be on disk first, as in overlayfs.
			org.state, org.arg, c.boot = stateFull, "", false
			if !f.cfg.Volatile {
				return org, f.cfg.machine.fdatasync(dst)
			}
		}
		return org, nil
	}
	if len(org.path) > maxRecordPath {
		if err := sys.CopyData(dst, src, size); err != nil {
			return org, err
		}
		org.state = stateFull
		return org, f.cfg.machine.fdatasync(dst)
	}
	if err := unix.Ftruncate(dst, size); err != nil {
		return org, err
	}
	org.state = stateMeta
	c.part = newPartly(lower, org, &c.st)
	return org, nil
}

// maxRecordPath is the longest path that fits an attribute everywhere, beside
// the override: ext4 keeps all attributes of a file in one block.
const maxRecordPath = 2048

// finish moves the copy to its place and the node with it.
func (c *copyJob) finish(parent *dirRef) error {
	f, n := c.f, c.n
	back := place{parent, ""}
	if n.flags&flagDeleted != 0 {
		return c.finishNameless()
	}
	if err := f.notePlaceholder(parent, n.meta); err != nil {
		return err
	}
	var st unix.Statx_t
	if err := sys.Stat(f.work.staging, c.stage, &st); err != nil {
		return err
	}
	switch {
	case c.many && c.st.Nlink > 1:
		key := strconv.FormatUint(n.backIno, 16)
		if err := f.publish(c.stage, f.work.index, key); err != nil {
			return err
		}
		back = place{f.work.index, key}
		if err := f.linkAt(back, parent, n.ent.name); err != nil {
			f.unlinkAt(f.work.index, key)
			return err
		}
		if err := f.storeNlink(back, int32(c.st.Nlink)-2); err != nil {
			f.unlinkAt(parent, n.ent.name)
			f.unlinkAt(f.work.index, key)
			return err
		}
		f.linkMu.Lock()
		f.work.indexed[n.backIno] = true
		f.linkMu.Unlock()
		n.flags |= flagIndexed
		n.nlink = int32(c.st.Nlink) - 2
	default:
		if err := f.publish(c.stage, parent, n.ent.name); err != nil {
			return err
		}
		back.name = n.ent.name
	}
	n.ent.owner, n.ent.ino, n.ent.below = parent, st.Ino, true
	c.move(back, st.Ino)
	if c.apart && n.ino != n.backIno && n.flags&flagIndexed == 0 {
		// Without it, the object has a number of its own after the next mount.
		_ = f.recordApart(st.Ino, apartRecord{ino: n.ino})
	}
	return nil
}

// notePlaceholder marks an upper directory that an object with metadata m is
// about to be moved into, if that may be a placeholder.
func (f *FS) notePlaceholder(dir *dirRef, m ondisk.Meta) error {
	if t := m.Type(); t == unix.S_IFREG || t == unix.S_IFDIR || f.upper.owners != OwnersStored && !likeWhiteout(m) {
		return nil
	}
	fd, err := f.use(dir)
	if err != nil {
		return err
	}
	defer f.done(dir, fd)
	return ondisk.MarkPlaceholders(fd)
}

// move makes the copy the node's object.
func (c *copyJob) move(back place, ino uint64) {
	f, n := c.f, c.n
	f.linkMu.Lock()
	if n.flags&flagLinked != 0 {
		f.links[unionIno(f.upper, ino)] = n
	}
	if n.file != nil {
		f.fds.drop(&n.file.fd)
	}
	if c.part != nil {
		f.fileLocked(n).part = c.part
		n.flags |= flagPartly
	}
	f.linkMu.Unlock()
	n.back, n.backIno = back, unionIno(f.upper, ino)
	if back.dir != nil {
		f.readFlags(n)
	}
	if c.boot {
		f.markDirty(n)
	}
}

// finishNameless makes the copy of a node that has lost its last name: it is
// reached through a descriptor alone.
func (c *copyJob) finishNameless() error {
	f, n := c.f, c.n
	var fd int
	var err error
	if n.meta.Type() == unix.S_IFREG {
		fd, err = f.openUpper(f.work.staging, c.stage)
	} else {
		fd, err = sys.Open(f.work.staging, c.stage, unix.O_PATH, 0)
	}
	if err != nil {
		return err
	}
	var st unix.Statx_t
	if err := sys.Stat(fd, "", &st); err != nil {
		sys.Close(fd)
		return err
	}
	_ = unix.Unlinkat(f.work.staging, c.stage, 0)
	c.boot = false
	c.move(place{dir: f.upper.root}, st.Ino)
	f.holdNameless(n, fd)
	f.readFlags(n)
	return nil
}

// abort removes what a failed copy-up left.
func (c *copyJob) abort() {
	c.f.work.discard(c.stage)
}
