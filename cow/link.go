package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/sys"
	"mica/whiteout"
)

// Link gives n, which is not a directory, one more name, and n one more
// reference.
func (f *FS) Link(n *Node, dir *Node, name string, out *Attr) error {
	if n.dir != nil {
		return unix.EPERM
	}
	if dir.dir == nil {
		return unix.ENOTDIR
	}
	if len(name) > nameMax {
		return unix.ENAMETOOLONG
	}
	if err := f.copyUpBefore(n); err != nil {
		return err
	}
	f.tree.Lock()
	defer f.tree.Unlock()
	up, err := f.freeName(dir, name)
	if err != nil {
		return err
	}
	if n.flags&flagDeleted != 0 && (n.flags&flagNameless == 0 || n.meta.Type() != unix.S_IFREG) {
		return unix.ENOENT
	}
	if err := f.copyUp(n, true); err != nil {
		return err
	}
	// A symlink that gets attributes later must get them under all names.
	if err := f.needPlaceholder(n, n.flags&flagNameless == 0); err != nil {
		return err
	}
	if err := f.notePlaceholder(up, n.meta); err != nil {
		return err
	}
	h, covered := dir.dir.hidden[name]
	if err := f.linkName(n, up, name, h, covered); err != nil {
		return err
	}
	ent := &dirent{name: name, owner: up, typ: dtype(n.meta.Mode), below: h.below}
	delete(dir.dir.hidden, name)
	if n.flags&flagNameless != 0 {
		f.restoreName(n, ent)
		n.flags &^= flagDeleted
	} else if n.flags&flagLinked == 0 {
		n.flags |= flagLinked
		f.linkMu.Lock()
		f.links[n.backIno] = n
		f.linkMu.Unlock()
	}
	var st unix.Statx_t
	if err := f.statNode(n, &st); err != nil {
		return err
	}
	ent.ino = st.Ino
	dir.dir.insert(ent)
	f.attach(dir, ent, n)
	n.refs.Add(1)
	if out != nil {
		f.fillAttr(n, &st, out)
	}
	return nil
}

// linkName makes the name on disk, where h hides it if it is covered.
func (f *FS) linkName(n *Node, up *dirRef, name string, h hiding, covered bool) error {
	dfd, err := f.use(up)
	if err != nil {
		return err
	}
	defer f.done(up, dfd)
	fd, old, p, err := f.reach(n)
	if err != nil {
		return err
	}
	defer p.put()
	target, targetName := dfd, name
	if covered && h.style == whiteout.Device {
		target, targetName = f.work.staging, f.work.stageName()
	}
	if old == "" {
		err = unix.Linkat(unix.AT_FDCWD, sys.FdPath(fd), target, targetName, unix.AT_SYMLINK_FOLLOW)
	} else {
		err = unix.Linkat(fd, old, target, targetName, 0)
	}
	switch {
	case err != nil || !covered:
		return err
	case h.style == whiteout.File:
		_ = h.style.Remove(dfd, name) // beside its name it says nothing
		return nil
	}
	if err := f.putOver(targetName, up, name, h.style, false); err != nil {
		f.work.discard(targetName)
		return err
	}
	return nil
}
