package cow

import (
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// prepare brings everything into the upper that the rename touches, so that
// the rename itself is one step there.
func (r *renaming) prepare() error {
	f := r.f
	var err error
	if r.from.up, err = f.ensureUpperDir(r.from.dir); err != nil {
		return err
	}
	if r.to.up, err = f.ensureUpperDir(r.to.dir); err != nil {
		return err
	}
	if err := r.prepareMoved(&r.from, &r.to); err != nil {
		return err
	}
	if r.to.node == nil {
		return nil
	}
	if r.flags&unix.RENAME_EXCHANGE != 0 {
		return r.prepareMoved(&r.to, &r.from)
	}
	if r.to.node.dir != nil && r.to.ent.owner.layer == f.upper {
		return f.clearMarks(r.to.node)
	}
	return nil
}

// prepareMoved readies one object for its move to the other name. A directory
// must carry its lower content along, and none that lies below its new name.
func (r *renaming) prepareMoved(e, dst *end) error {
	f, n := r.f, e.node
	if f.stays(n) {
		return unix.EXDEV
	}
	if err := f.copyUp(n, true); err != nil {
		return err
	}
	if n.dir == nil {
		if err := f.notePlaceholder(dst.up, n.meta); err != nil {
			return err
		}
		return r.ownName(e)
	}
	if _, err := f.peekUpper(n); err != nil {
		return err
	}
	if len(n.dir.stack) > 1 {
		if f.cfg.NoRedirect {
			if err := f.copyUpTree(n); err != nil {
				return err
			}
		}
		return f.setRedirect(n)
	}
	if _, hidden := dst.dir.dir.hidden[dst.name]; hidden || dst.ent != nil && dst.ent.below {
		return f.setRedirect(n)
	}
	return nil
}

// stays tells whether a directory is one that Config.Stays says must not move.
func (f *FS) stays(n *Node) bool {
	if f.cfg.Stays == "" || n.dir == nil {
		return false
	}
	path := ""
	for ; n.parent != nil; n = n.parent {
		path = n.ent.name + "/" + path
	}
	return strings.HasPrefix(f.cfg.Stays+"/", path)
}

// ownName makes sure that the name of a copied-up hard link is itself on disk
// in the upper, where it can be moved.
func (r *renaming) ownName(e *end) error {
	f := r.f
	if e.ent.owner.layer == f.upper {
		return nil
	}
	if err := f.linkAt(e.node.back, e.up, e.name); err != nil {
		return err
	}
	if err := f.storeNlink(e.node.back, e.node.nlink-1); err != nil {
		f.unlinkAt(e.up, e.name)
		return err
	}
	e.node.nlink--
	e.ent.owner, e.ent.below = e.up, true
	return nil
}

// copyUpTree copies all below a directory up, for uppers that know no
// redirects; afterwards the directory needs no lower one.
func (f *FS) copyUpTree(n *Node) error {
	n.refs.Add(1) // the end of its children must not be its own
	defer n.refs.Add(-1)
	if _, err := f.ensureUpperDir(n); err != nil {
		return err
	}
	if err := f.load(n); err != nil {
		return err
	}
	for ent := range n.dir.present() {
		child, err := f.nodeOf(n, ent, nil)
		if err != nil {
			return err
		}
		if child.dir != nil {
			err = f.copyUpTree(child)
		} else if err = f.copyUp(child, true); err == nil && ent.owner.layer != f.upper {
			e := end{dir: n, up: n.dir.top, name: ent.name, ent: ent, node: child}
			err = (&renaming{f: f}).ownName(&e)
		}
		f.dropIdle(child)
		if err != nil {
			return err
		}
	}
	if err := f.clearMarks(n); err != nil {
		return err
	}
	for ent := range n.dir.present() {
		ent.below, ent.lowers = false, nil
	}
	for _, d := range n.dir.stack[1:] {
		f.dropRef(d)
	}
	n.dir.stack = n.dir.stack[:1]
	return nil
}

// clearMarks makes a directory opaque, which its whiteouts then have no part
// in any more, and removes these. The merged view stays as it is if the
// directory's own upper entries are all it has.
func (f *FS) clearMarks(n *Node) error {
	up := n.dir.top
	fd, err := f.use(up)
	if err != nil {
		return err
	}
	defer f.done(up, fd)
	if len(n.dir.hidden) == 0 && len(n.dir.stack) == 1 {
		return nil
	}
	// The directory's times stay: nobody has changed it.
	var st unix.Statx_t
	if err := sys.Stat(fd, "", &st); err != nil {
		return err
	}
	if err := f.lift(fd, "", func() error { return f.style.SetOpaque(fd, "") }); err != nil {
		return err
	}
	for name, h := range n.dir.hidden {
		if err := h.style.Remove(fd, name); err != nil {
			return err
		}
		delete(n.dir.hidden, name)
	}
	return setTimes(fd, "", &st)
}
