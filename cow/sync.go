package cow

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// settleDelay is how long a copy-up may wait for the disk on its own: what is
// older is synced in the background, so that a machine that fails much later
// finds it.
const settleDelay = 5 * time.Second

// manySyncs is from how many files on one sync of the filesystem is cheaper
// than one for each.
const manySyncs = 16

// Fsync makes a file's content, and unless dataOnly its metadata, durable.
func (f *FS) Fsync(n *Node, dataOnly bool) error {
	if f.cfg.Volatile || f.ReadOnly() {
		return nil
	}
	f.tree.RLock()
	if !f.inUpper(n) {
		f.tree.RUnlock()
		return nil
	}
	c, err := f.open(n)
	f.tree.RUnlock()
	if err != nil {
		return err
	}
	err = f.settle(n, c, dataOnly)
	c.put()
	if err == nil {
		f.markClean(n)
	}
	return err
}

// settle syncs one file and its records.
func (f *FS) settle(n *Node, c content, dataOnly bool) error {
	var live []uint64
	var lowerEnd int64
	if p := c.part; p != nil {
		p.mu.Lock()
		if p.m != nil {
			live, lowerEnd = p.m.snapshot()
		}
		p.mu.Unlock()
	}
	sync := unix.Fsync
	if dataOnly {
		sync = unix.Fdatasync
	}
	if err := sys.Retry(func() error { return sync(c.fd) }); err != nil {
		return err
	}
	if live != nil {
		c.part.mu.Lock()
		defer c.part.mu.Unlock()
		return c.part.m.commit(live, lowerEnd)
	}
	if c.part != nil || !f.isDirty(n) {
		return nil
	}
	if err := f.recordFull(n, c.fd); err != nil {
		return err
	}
	return sys.Retry(func() error { return unix.Fsync(c.fd) })
}

// recordFull notes on disk that all content of n is in the upper and synced.
func (f *FS) recordFull(n *Node, fd int) error {
	return writeOrigin(fd, "", origin{ino: n.ino, state: stateFull})
}

// markClean takes back what markDirty did. It must be called without FS.tree.
func (f *FS) markClean(n *Node) {
	f.dirtyMu.Lock()
	_, was := f.dirty[n]
	delete(f.dirty, n)
	f.dirtyMu.Unlock()
	if was {
		f.Forget(n, 1)
	}
}

// FsyncDir makes a directory's entries durable.
func (f *FS) FsyncDir(n *Node) error {
	if f.cfg.Volatile || f.ReadOnly() {
		return nil
	}
	f.tree.RLock()
	defer f.tree.RUnlock()
	up := f.upperDir(n)
	if up == nil || n.flags&flagDeleted != 0 {
		return nil
	}
	fd, err := f.use(up)
	if err != nil {
		return err
	}
	defer f.done(up, fd)
	return sys.Retry(func() error { return unix.Fsync(fd) })
}

// markDirty notes that n's copy is complete but not known to be on disk, and
// keeps n in memory until it is.
func (f *FS) markDirty(n *Node) {
	if f.cfg.Volatile {
		return
	}
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	if _, ok := f.dirty[n]; ok {
		return
	}
	n.refs.Add(1)
	f.dirty[n] = struct{}{}
	if f.settler == nil {
		f.settler = time.AfterFunc(settleDelay, f.settleAll)
	}
}

func (f *FS) isDirty(n *Node) bool {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	_, ok := f.dirty[n]
	return ok
}

// settleAll runs in the background some time after the first copy-up. Errors
// stay in the backing files, where the next fsync finds them.
func (f *FS) settleAll() {
	f.dirtyMu.Lock()
	f.settler = nil
	f.dirtyMu.Unlock()
	_ = f.Sync()
}

// Sync makes all that was copied up durable, with its records.
func (f *FS) Sync() error {
	if f.upper == nil || f.cfg.Observe || f.cfg.Volatile {
		return nil
	}
	f.dirtyMu.Lock()
	if f.settler != nil {
		f.settler.Stop()
		f.settler = nil
	}
	nodes := make([]*Node, 0, len(f.dirty))
	for n := range f.dirty {
		nodes = append(nodes, n)
	}
	f.dirtyMu.Unlock()
	if len(nodes) == 0 {
		return nil
	}
	synced := false
	if len(nodes) >= manySyncs {
		// Everything written before this call is on disk after it.
		if err := f.syncFilesystem(); err != nil {
			return err
		}
		synced = true
	}
	var errs []error
	for _, n := range nodes {
		if err := f.settleOne(n, synced); err != nil {
			errs = append(errs, err)
		} else {
			f.markClean(n)
		}
	}
	return errors.Join(errs...)
}

// settleOne syncs one copied-up node; synced says that its data is on disk.
func (f *FS) settleOne(n *Node, synced bool) error {
	f.tree.RLock()
	if n.flags&flagDeleted != 0 {
		f.tree.RUnlock()
		return nil // nobody can find it after a crash
	}
	c, err := f.open(n)
	f.tree.RUnlock()
	if err != nil {
		return err
	}
	defer c.put()
	if synced && c.part == nil {
		return f.recordFull(n, c.fd)
	}
	return f.settle(n, c, true)
}

// syncFilesystem writes back the whole filesystem of the upper.
func (f *FS) syncFilesystem() error {
	fd, err := f.use(f.upper.root)
	if err != nil {
		return err
	}
	defer f.done(f.upper.root, fd)
	return unix.Syncfs(fd)
}
