package cow

import (
	"errors"
	"slices"
	"time"
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
	defer c.put()
	if err := f.takeFailure(n); err != nil {
		return err
	}
	return f.settle(n, c, dataOnly)
}

// settle syncs one file and its records and takes it off those that are not
// synced.
func (f *FS) settle(n *Node, c content, dataOnly bool) error {
	if c.part != nil {
		return f.settlePart(n, c, dataOnly)
	}
	dirty := f.isDirty(n)
	if err := f.syncFD(c.fd, dataOnly); err != nil || !dirty {
		return err
	}
	if err := f.recordFull(n, c.fd); err != nil {
		return err
	}
	if err := f.syncFD(c.fd, false); err != nil {
		return err
	}
	f.markClean(n)
	return nil
}

func (f *FS) syncFD(fd int, dataOnly bool) error {
	if dataOnly {
		return f.cfg.machine.fdatasync(fd)
	}
	return f.cfg.machine.fsync(fd)
}

// settlePart is settle for a file that has content below. The disk gets the
// data, then the map that says so, and the first time the record that names
// the map, and with it the name of the copy, before both.
func (f *FS) settlePart(n *Node, c content, dataOnly bool) error {
	p := c.part
	p.mu.Lock()
	live, lowerEnd, err := p.beforeSync(f, c.fd, false)
	first := p.record.state != stateMap
	p.mu.Unlock()
	if err != nil {
		return err
	}
	if err := f.syncFD(c.fd, dataOnly && !first); err != nil {
		return err
	}
	p.mu.Lock()
	clean, err := p.afterSync(f, c.fd, live, lowerEnd)
	if clean {
		clean = f.takeDirty(n) // within p.mu: a write has happened before or marks it after
	}
	p.mu.Unlock()
	if clean {
		f.Forget(n, 1)
	}
	return err
}

// syncLocked is settlePart in one piece, for the rare changes that must wait
// for what was before them. Needs p.mu exclusively and a map.
func (p *partly) syncLocked(f *FS, upper int) error {
	live, lowerEnd, err := p.beforeSync(f, upper, true)
	if err == nil {
		err = f.cfg.machine.fsync(upper)
	}
	if err == nil {
		_, err = p.afterSync(f, upper, live, lowerEnd)
	}
	return err
}

// beforeSync says what a sync of the data will put on disk; edge is as for
// finishEdge. Needs p.mu exclusively.
func (p *partly) beforeSync(f *FS, upper int, edge bool) (live []uint64, lowerEnd int64, err error) {
	if p.m == nil {
		return nil, 0, nil
	}
	if err := p.finishEdge(f, upper, edge); err != nil {
		return nil, 0, err
	}
	live, lowerEnd = p.m.snapshot()
	return live, lowerEnd, nil
}

// afterSync puts on disk that the data is. clean says that nothing has come
// since beforeSync. Needs p.mu exclusively.
func (p *partly) afterSync(f *FS, upper int, live []uint64, lowerEnd int64) (clean bool, err error) {
	if live == nil {
		return p.m == nil, nil
	}
	if err := p.m.commit(f.cfg.machine, live, lowerEnd); err != nil {
		return false, err
	}
	if p.record.state == stateNew {
		if err := f.cfg.machine.fsync(f.work.maps); err != nil {
			return false, err
		}
		record := p.record
		record.state = stateMap
		if err := f.writeOrigin(upper, "", record); err != nil {
			return false, err
		}
		p.record = record
	}
	return slices.Equal(p.m.live, live) && p.m.lowerEnd() == lowerEnd, nil
}

// recordFull notes on disk that all content of n is in the upper and synced.
func (f *FS) recordFull(n *Node, fd int) error {
	return f.writeOrigin(fd, "", origin{ino: n.ino, state: stateFull})
}

// markClean takes back what markDirty did. It must be called without FS.tree.
func (f *FS) markClean(n *Node) {
	if f.takeDirty(n) {
		f.Forget(n, 1)
	}
}

// takeDirty is markClean without the end of the reference that markDirty took,
// which is the caller's if the result is true.
func (f *FS) takeDirty(n *Node) bool {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	_, was := f.dirty[n]
	delete(f.dirty, n)
	return was
}

// FsyncDir makes a directory's entries durable.
func (f *FS) FsyncDir(n *Node) error {
	if f.cfg.Volatile || f.ReadOnly() {
		return nil
	}
	f.tree.RLock()
	up := f.upperDir(n)
	if up == nil || n.flags&flagDeleted != 0 {
		f.tree.RUnlock()
		return nil
	}
	fd, err := f.use(up)
	f.tree.RUnlock()
	if err != nil {
		return err
	}
	defer f.done(up, fd)
	return f.cfg.machine.fsync(fd)
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
	f.dirty[n] = nil
	f.settleLater()
}

// settleLater sees to it that what is dirty is synced in some time, but for what
// could not be: a client is to hear of that first. Needs dirtyMu.
func (f *FS) settleLater() {
	if f.settler != nil || f.closing {
		return
	}
	for _, failed := range f.dirty {
		if failed == nil {
			f.settler = time.AfterFunc(settleDelay, f.settleAll)
			return
		}
	}
}

func (f *FS) isDirty(n *Node) bool {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	_, ok := f.dirty[n]
	return ok
}

// settleAll runs in the background some time after the first copy-up.
func (f *FS) settleAll() {
	f.dirtyMu.Lock()
	f.settler = nil
	if f.closing {
		f.dirtyMu.Unlock()
		return
	}
	f.settling.Add(1)
	f.dirtyMu.Unlock()
	defer f.settling.Done()
	_ = f.sync(func(failed error) bool { return failed == nil })
}

// endSettling waits for the background to be done for good.
func (f *FS) endSettling() {
	f.dirtyMu.Lock()
	f.closing = true
	if f.settler != nil {
		f.settler.Stop()
	}
	f.dirtyMu.Unlock()
	f.settling.Wait()
}

// Sync makes all that was copied up durable, with its records.
func (f *FS) Sync() error { return f.sync(func(error) bool { return true }) }

// sync is Sync for those nodes that, with the error of the last try, wanted
// takes.
func (f *FS) sync(wanted func(failed error) bool) error {
	if f.upper == nil || f.cfg.Observe || f.cfg.Volatile {
		return nil
	}
	nodes := f.beginSync(wanted)
	defer f.endSync(nodes)
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
	var recorded []*Node
	for _, n := range nodes {
		later, err := f.settleOne(n, synced)
		if err != nil {
			errs = append(errs, err)
			f.noteFailure(n, err)
		} else if later {
			recorded = append(recorded, n)
		}
	}
	if len(recorded) > 0 {
		// The records have to be there before anybody may rely on them.
		if err := f.syncFilesystem(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		for _, n := range recorded {
			f.markClean(n)
		}
	}
	return errors.Join(errs...)
}

// beginSync gives the nodes to sync, with a reference to each: a client's fsync
// may be faster, and nothing else keep them in memory then.
func (f *FS) beginSync(wanted func(failed error) bool) []*Node {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	if f.settler != nil {
		f.settler.Stop()
		f.settler = nil
	}
	nodes := make([]*Node, 0, len(f.dirty))
	for n, failed := range f.dirty {
		if wanted(failed) {
			n.refs.Add(1)
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func (f *FS) endSync(nodes []*Node) {
	for _, n := range nodes {
		f.Forget(n, 1)
	}
	// What was changed meanwhile waits for the next time.
	f.dirtyMu.Lock()
	f.settleLater()
	f.dirtyMu.Unlock()
}

// noteFailure keeps the error of a sync in the background for the client that
// asks next: the disk tells it once.
func (f *FS) noteFailure(n *Node, err error) {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	if _, ok := f.dirty[n]; ok {
		f.dirty[n] = err
	}
}

// takeFailure gives what noteFailure kept, once.
func (f *FS) takeFailure(n *Node) error {
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	err := f.dirty[n]
	if err != nil {
		f.dirty[n] = nil
		f.settleLater()
	}
	return err
}

// settleOne syncs one copied-up node. synced says that its data is on disk;
// later is then true if its record still has to get there.
func (f *FS) settleOne(n *Node, synced bool) (later bool, err error) {
	f.tree.RLock()
	if n.flags&flagDeleted != 0 {
		f.tree.RUnlock()
		f.markClean(n) // nobody can find it after a crash
		return false, nil
	}
	c, err := f.open(n)
	f.tree.RUnlock()
	if err != nil {
		return false, err
	}
	defer c.put()
	if synced && c.part == nil {
		return true, f.recordFull(n, c.fd)
	}
	return false, f.settle(n, c, true)
}

// syncFilesystem writes back the whole filesystem of the upper.
func (f *FS) syncFilesystem() error {
	fd, err := f.use(f.upper.root)
	if err != nil {
		return err
	}
	defer f.done(f.upper.root, fd)
	return f.cfg.machine.syncfs(fd)
}
