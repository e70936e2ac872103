package cow

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Unlink removes a name that is not a directory's.
func (f *FS) Unlink(dir *Node, name string) error {
	return f.remove(dir, name, false)
}

// Rmdir removes an empty directory.
func (f *FS) Rmdir(dir *Node, name string) error {
	return f.remove(dir, name, true)
}

func (f *FS) remove(dir *Node, name string, wantDir bool) error {
	if dir.dir == nil {
		return unix.ENOTDIR
	}
	if err := f.copyUpNamed(dir, name, losesLink); err != nil {
		return err
	}
	f.tree.Lock()
	defer f.tree.Unlock()
	if f.ReadOnly() {
		return unix.EROFS
	}
	ent, err := f.entry(dir, name)
	if err != nil {
		return err
	}
	n, err := f.nodeOf(dir, ent, nil)
	if err != nil {
		return err
	}
	defer f.dropIdle(n)
	if err := f.removable(n, wantDir); err != nil {
		return err
	}
	up, err := f.ensureUpperDir(dir)
	if err != nil {
		return err
	}
	if err := f.beforeUnlink(n, ent); err != nil {
		return err
	}
	if ent.owner.layer == f.upper {
		err = f.removeUpper(up, name, wantDir, ent.below)
	} else {
		err = f.whiteoutFree(up, name)
	}
	if err != nil {
		f.undoUnlink(n, ent)
		return err
	}
	below := ent.below
	dir.dir.remove(ent)
	if below {
		dir.dir.hide(name, hiding{style: f.style, below: true})
	}
	f.afterUnlink(n, dir, ent)
	return nil
}

// removable checks that n can be removed as what the caller takes it for.
func (f *FS) removable(n *Node, wantDir bool) error {
	if n.dir == nil {
		if wantDir {
			return unix.ENOTDIR
		}
		return nil
	}
	if !wantDir {
		return unix.EISDIR
	}
	if err := f.load(n); err != nil {
		return err
	}
	if n.dir.size() > 0 {
		return unix.ENOTEMPTY
	}
	return nil
}

// lastUpperName tells whether ent is the only name of n on disk in the upper.
func (f *FS) lastUpperName(n *Node, ent *dirent) bool {
	return f.inUpper(n) && ent.owner.layer == f.upper && n.flags&flagIndexed == 0
}

// beforeUnlink keeps n reachable when the name ent of it goes: by a
// descriptor, or by another of its names.
func (f *FS) beforeUnlink(n *Node, ent *dirent) error {
	if losesLink(n) && !f.inUpper(n) {
		// From now on its link count differs from that on disk, which only the
		// index can record.
		if err := f.copyUp(n, true); err != nil {
			return err
		}
	}
	if !f.lastUpperName(n, ent) || n.refs.Load() == 0 {
		return nil
	}
	if n.dir != nil {
		return f.makeNameless(n)
	}
	if n.back.dir != ent.owner || n.back.name != ent.name {
		return nil
	}
	for _, a := range f.aliases[n] {
		if a.ent != ent && a.ent.owner.layer == f.upper {
			n.back = place{a.ent.owner, a.ent.name}
			return nil
		}
	}
	if n.ent != ent && n.ent != nil && n.ent.owner.layer == f.upper {
		n.back = place{n.ent.owner, n.ent.name}
		return nil
	}
	return f.makeNameless(n)
}

// losesLink tells whether n, if it is in a lower layer, is copied up before a
// name of it goes: because it has several.
func losesLink(n *Node) bool { return n.flags&flagIndexed == 0 && n.flags&flagLinked != 0 }

// undoUnlink takes back what beforeUnlink did when the removal failed.
func (f *FS) undoUnlink(n *Node, ent *dirent) {
	if n.flags&flagNameless != 0 && n.flags&flagDeleted == 0 {
		f.restoreName(n, ent)
	}
}

// restoreName gives a nameless node its name back.
func (f *FS) restoreName(n *Node, ent *dirent) {
	delete(f.orphans, n)
	f.fds.unpin(&n.file.fd)
	n.flags &^= flagNameless
	if n.dir == nil {
		n.back = place{ent.owner, ent.name}
	}
}

// dropName takes ent from the names by which n is known.
func (f *FS) dropName(n *Node, ent *dirent) {
	names := f.aliases[n]
	switch {
	case n.ent == ent && len(names) == 0:
		n.parent, n.ent = nil, nil
		return
	case n.ent == ent:
		last := len(names) - 1
		n.parent, n.ent = names[last].dir, names[last].ent
		names = slices.Delete(names, last, last+1)
	default:
		names = slices.DeleteFunc(names, func(a alias) bool { return a.ent == ent })
	}
	if len(names) == 0 {
		delete(f.aliases, n)
	} else {
		f.aliases[n] = names
	}
}

// afterUnlink takes the name ent off n. The name is gone by then: what cannot be
// put in order behind it stays in the index, and is no failure of the removal.
func (f *FS) afterUnlink(n *Node, dir *Node, ent *dirent) {
	ent.node = nil
	dir.dir.children.Add(-1)
	if n.flags&flagIndexed != 0 && ent.owner.layer != f.upper {
		// The name was not on disk in the upper, so the count there stays. That
		// comes last: with a count too low the index would lose the copy while a
		// name still needs it, with one too high the copy stays for nothing.
		if f.storeNlink(n.back, n.nlink-1) == nil {
			n.nlink--
		}
	}
	f.dropName(n, ent)
	if n.dir != nil || n.flags&flagLinked == 0 {
		n.flags |= flagDeleted
		f.dropKept(n)
	} else {
		_ = f.afterLinkGone(n)
	}
	if n.refs.Load() == 0 {
		f.dropUnused(n)
	}
}

// afterLinkGone looks whether a node with several names has lost its last.
func (f *FS) afterLinkGone(n *Node) error {
	if n.refs.Load() == 0 && n.flags&flagIndexed == 0 {
		return nil // nobody needs to know, and the name it was reached by may be this one
	}
	var st unix.Statx_t
	if err := f.statNode(n, &st); err != nil {
		return err
	}
	count := int32(st.Nlink)
	if n.flags&flagIndexed != 0 {
		count += n.nlink
	}
	if count > 0 {
		return nil
	}
	if n.flags&flagIndexed != 0 {
		if n.refs.Load() > 0 {
			if err := f.makeNameless(n); err != nil {
				return err
			}
		}
		if err := f.dropIndex(n); err != nil {
			return err
		}
	}
	n.flags |= flagDeleted
	f.dropKept(n)
	return nil
}
