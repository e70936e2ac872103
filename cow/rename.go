package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/whiteout"
)

// Rename moves a name. flags are those of renameat2: RENAME_NOREPLACE,
// RENAME_EXCHANGE and RENAME_WHITEOUT, whose device belongs to c.
func (f *FS) Rename(c Caller, oldDir *Node, oldName string, newDir *Node, newName string, flags uint32) error {
	if oldDir.dir == nil || newDir.dir == nil {
		return unix.ENOTDIR
	}
	if len(newName) > nameMax {
		return unix.ENAMETOOLONG
	}
	const known = unix.RENAME_NOREPLACE | unix.RENAME_EXCHANGE | unix.RENAME_WHITEOUT
	if flags&^known != 0 || flags&unix.RENAME_EXCHANGE != 0 && flags != unix.RENAME_EXCHANGE {
		return unix.EINVAL
	}
	moved := func(*Node) bool { return true }
	gone := func(n *Node) bool { return flags&unix.RENAME_EXCHANGE != 0 || losesLink(n) }
	if err := f.copyUpNamed(oldDir, oldName, moved); err != nil {
		return err
	}
	if err := f.copyUpNamed(newDir, newName, gone); err != nil {
		return err
	}
	f.tree.Lock()
	defer f.tree.Unlock()
	if f.ReadOnly() {
		return unix.EROFS
	}
	r := renaming{f: f, caller: c, flags: flags}
	defer func() {
		f.dropIdle(r.from.node)
		f.dropIdle(r.to.node)
	}()
	if err := r.find(oldDir, oldName, newDir, newName); err != nil {
		return err
	}
	if r.to.node != nil && r.from.node == r.to.node {
		return nil // two names of one file
	}
	if err := r.prepare(); err != nil {
		return err
	}
	if flags&unix.RENAME_EXCHANGE != 0 {
		return r.exchange()
	}
	return r.move()
}

// end is one of the two names of a renaming.
type end struct {
	dir  *Node
	up   *dirRef
	name string
	ent  *dirent // nil: the name is free
	node *Node
}

// renaming is one rename under way.
type renaming struct {
	f        *FS
	caller   Caller
	flags    uint32
	from, to end
	left     whiteout.Style // of the whiteout at the old name
	stale    bool           // which is there though nothing lies below
	device   string         // in staging, to be left behind for RENAME_WHITEOUT

	deviceIno uint64
}

// find looks up both ends and checks what rename(2) checks.
func (r *renaming) find(oldDir *Node, oldName string, newDir *Node, newName string) error {
	f := r.f
	if oldDir.flags&flagDeleted != 0 || newDir.flags&flagDeleted != 0 {
		return unix.ENOENT
	}
	if reserved(newName) {
		return unix.EPERM
	}
	r.from = end{dir: oldDir, name: oldName}
	r.to = end{dir: newDir, name: newName}
	var err error
	if r.from.ent, err = f.entry(oldDir, oldName); err != nil {
		return err
	}
	if r.from.node, err = f.nodeOf(oldDir, r.from.ent, nil); err != nil {
		return err
	}
	r.to.ent, err = f.entry(newDir, newName)
	switch {
	case err == unix.ENOENT && r.flags&unix.RENAME_EXCHANGE == 0:
		r.to.ent = nil
	case err != nil:
		return err
	case r.flags&unix.RENAME_NOREPLACE != 0:
		return unix.EEXIST
	default:
		if r.to.node, err = f.nodeOf(newDir, r.to.ent, nil); err != nil {
			return err
		}
	}
	if isAncestor(r.from.node, newDir) || r.flags&unix.RENAME_EXCHANGE != 0 && isAncestor(r.to.node, oldDir) {
		return unix.EINVAL
	}
	if r.to.node == nil || r.from.node == r.to.node || r.flags&unix.RENAME_EXCHANGE != 0 {
		return nil
	}
	if isAncestor(r.to.node, oldDir) {
		return unix.ENOTEMPTY
	}
	if r.from.node.dir != nil && r.to.node.dir == nil {
		return unix.ENOTDIR
	}
	return f.removable(r.to.node, r.from.node.dir != nil)
}

// isAncestor tells whether n is dir or above it.
func isAncestor(n, dir *Node) bool {
	for ; dir != nil; dir = dir.parent {
		if dir == n {
			return true
		}
	}
	return false
}

// move does a rename that is no exchange.
func (r *renaming) move() error {
	f := r.f
	from, to := &r.from, &r.to
	below := to.dir.dir.hidden[to.name].below
	if to.node != nil {
		below = to.ent.below
		if err := f.beforeUnlink(to.node, to.ent); err != nil {
			return err
		}
	}
	err := r.stageDevice()
	if err == nil {
		err = r.moveOnDisk()
	}
	if err != nil {
		f.work.discard(r.device)
		if to.node != nil {
			f.undoUnlink(to.node, to.ent)
		}
		return err
	}
	cookie := uint32(0)
	if to.node != nil {
		cookie = to.ent.cookie
		to.dir.dir.remove(to.ent)
		f.afterUnlink(to.node, to.dir, to.ent)
	}
	delete(to.dir.dir.hidden, to.name)
	r.leave(from)
	f.takeName(from.node, from.dir, from.ent, to, cookie, below)
	return r.leaveDevice()
}

// leave notes in the old directory that the name is gone.
func (r *renaming) leave(from *end) {
	below := from.ent.below
	from.dir.dir.remove(from.ent)
	if below || r.stale {
		from.dir.dir.hide(from.name, hiding{style: r.left, below: below})
	}
}

// moveOnDisk renames in the upper and leaves a whiteout where the lower layers
// have the old name.
func (r *renaming) moveOnDisk() error {
	f, from, to := r.f, &r.from, &r.to
	fd, err := f.use(from.up)
	if err != nil {
		return err
	}
	defer f.done(from.up, fd)
	tfd, err := f.use(to.up)
	if err != nil {
		return err
	}
	defer f.done(to.up, tfd)
	r.left = f.style
	h, hidden := to.dir.dir.hidden[to.name]
	if hidden && h.style == whiteout.Device && from.node.dir != nil {
		// A directory cannot replace the whiteout; it changes places with it.
		if err := sys.Rename(fd, from.name, tfd, to.name, unix.RENAME_EXCHANGE); err != nil {
			return err
		}
		r.left = h.style
		r.stale = !from.ent.below && unix.Unlinkat(fd, from.name, 0) != nil
		return nil
	}
	if err := r.replace(fd, tfd); err != nil {
		return err
	}
	if hidden && h.style == whiteout.File {
		_ = h.style.Remove(tfd, to.name) // beside its name it says nothing
	}
	return nil
}

// replace is rename, onto what it may replace, and a whiteout behind it.
func (r *renaming) replace(fd, tfd int) error {
	f, from, to := r.f, &r.from, &r.to
	if !from.ent.below {
		return sys.Rename(fd, from.name, tfd, to.name, 0)
	}
	if f.style == whiteout.Device {
		err := sys.Rename(fd, from.name, tfd, to.name, unix.RENAME_WHITEOUT)
		if err == unix.EINVAL || err == unix.EPERM {
			return r.replaceInSteps(fd, tfd)
		}
		return err
	}
	if err := f.createWhiteout(fd, from.name); err != nil {
		return err
	}
	if err := sys.Rename(fd, from.name, tfd, to.name, 0); err != nil {
		_ = f.style.Remove(fd, from.name)
		return err
	}
	return nil
}

// replaceInSteps is replace with a device on disks whose renames leave none. The
// whiteout is made before, so that a full disk changes nothing.
func (r *renaming) replaceInSteps(fd, tfd int) error {
	f, from, to := r.f, &r.from, &r.to
	stage := f.work.stageName()
	if err := f.createWhiteout(f.work.staging, stage); err != nil {
		return err
	}
	if err := sys.Rename(fd, from.name, tfd, to.name, 0); err != nil {
		f.work.discard(stage)
		return err
	}
	if sys.Rename(f.work.staging, stage, fd, from.name, 0) != nil && f.createWhiteout(fd, from.name) != nil {
		// The object has moved. Without the whiteout, the lower one shows after the next mount.
		f.work.discard(stage)
	}
	return nil
}

// takeName gives n, which had the entry old in oldDir, its new name. The node
// keeps all else. cookie is that of an entry which had the name until now, 0
// if there was none.
func (f *FS) takeName(n *Node, oldDir *Node, old *dirent, to *end, cookie uint32, below bool) {
	ent := &dirent{name: to.name, node: n, owner: to.up, ino: old.ino, typ: dtype(n.meta.Mode), below: below}
	oldPlace := place{old.owner, old.name}
	to.dir.dir.insertAt(ent, cookie)
	to.dir.dir.children.Add(1)
	old.node = nil
	oldDir.dir.children.Add(-1)
	if n.ent == old {
		n.parent, n.ent = to.dir, ent
	} else {
		for i, a := range f.aliases[n] {
			if a.ent == old {
				f.aliases[n][i] = alias{to.dir, ent}
			}
		}
	}
	if n.dir != nil {
		up := n.dir.top
		up.parent, up.name = to.up, to.name
		var parts []*dirRef
		for _, lower := range n.dir.stack[1:] {
			parts = append(parts, lower.parent)
		}
		ent.setParts(parts)
	} else if n.back == oldPlace {
		n.back = place{to.up, to.name}
	}
	if oldDir.refs.Load() == 0 {
		f.dropUnused(oldDir)
	}
}

// stageDevice makes the 0:0 device that RENAME_WHITEOUT asks for: for the union
// it is a device like others.
func (r *renaming) stageDevice() error {
	if r.flags&unix.RENAME_WHITEOUT == 0 {
		return nil
	}
	f, from := r.f, &r.from
	o := ondisk.Object{Meta: ondisk.Meta{UID: r.caller.UID, GID: r.caller.GID, Mode: unix.S_IFCHR}}
	if err := f.inherit(from.dir, from.up, &o, 0); err != nil {
		return err
	}
	r.device = f.work.stageName()
	if err := f.makeObject(f.work.staging, r.device, o); err != nil {
		return err
	}
	var st unix.Statx_t
	if err := sys.Stat(f.work.staging, r.device, &st); err != nil {
		return err
	}
	r.deviceIno = st.Ino
	return f.notePlaceholder(from.up, o.Meta)
}

// leaveDevice puts the device in the old place.
func (r *renaming) leaveDevice() error {
	if r.device == "" {
		return nil
	}
	f, from := r.f, &r.from
	h, covered := from.dir.dir.hidden[from.name]
	var err error
	if covered {
		err = f.putOver(r.device, from.up, from.name, h.style, false)
	} else {
		err = f.publish(r.device, from.up, from.name)
	}
	if err != nil {
		f.work.discard(r.device)
		return err
	}
	delete(from.dir.dir.hidden, from.name)
	from.dir.dir.insertAt(&dirent{name: from.name, owner: from.up, ino: r.deviceIno, typ: unix.DT_CHR, below: h.below}, from.ent.cookie)
	return nil
}

// exchange swaps two names.
func (r *renaming) exchange() error {
	f, a, b := r.f, &r.from, &r.to
	afd, err := f.use(a.up)
	if err != nil {
		return err
	}
	defer f.done(a.up, afd)
	bfd, err := f.use(b.up)
	if err != nil {
		return err
	}
	defer f.done(b.up, bfd)
	if err := sys.Rename(afd, a.name, bfd, b.name, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	aBelow, bBelow := a.ent.below, b.ent.below
	a.dir.dir.remove(a.ent)
	b.dir.dir.remove(b.ent)
	f.takeName(a.node, a.dir, a.ent, b, b.ent.cookie, bBelow)
	f.takeName(b.node, b.dir, b.ent, a, a.ent.cookie, aBelow)
	return nil
}
