package cow

import (
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// Lookup finds name in dir and gives its node, with one more reference, and
// its attributes. ENOENT says that there is none.
func (f *FS) Lookup(dir *Node, name string, out *Attr) (*Node, error) {
	if dir.dir == nil {
		return nil, unix.ENOTDIR
	}
	if len(name) > nameMax {
		return nil, unix.ENAMETOOLONG
	}
	f.tree.RLock()
	defer f.tree.RUnlock()
	dir.dir.mu.Lock()
	defer dir.dir.mu.Unlock()
	return f.lookupLocked(dir, name, out)
}

// lookupLocked is Lookup with dir.dir.mu or FS.tree held exclusively. A nil out
// asks for no attributes.
func (f *FS) lookupLocked(dir *Node, name string, out *Attr) (*Node, error) {
	ent, err := f.entry(dir, name)
	if err != nil {
		return nil, err
	}
	n, err := f.nodeOf(dir, ent, out)
	if err != nil {
		return nil, err
	}
	n.refs.Add(1)
	return n, nil
}

// entry finds a name in the merged listing. Needs dir.dir.mu, or FS.tree
// exclusively.
func (f *FS) entry(dir *Node, name string) (*dirent, error) {
	if !dir.dir.loaded {
		if dir.flags&flagDeleted != 0 {
			return nil, unix.ENOENT
		}
		if err := f.load(dir); err != nil {
			return nil, err
		}
	}
	ent := dir.dir.find(name)
	if ent == nil {
		return nil, unix.ENOENT
	}
	return ent, nil
}

// nodeOf gives the node of an entry, making it if need be, and its attributes.
// It takes no reference. Needs dir.dir.mu, or FS.tree exclusively.
func (f *FS) nodeOf(dir *Node, ent *dirent, out *Attr) (*Node, error) {
	if n := ent.node; n != nil {
		if out == nil {
			return n, nil
		}
		return n, f.attrLocked(n, out)
	}
	at := f.entryPlace(ent)
	fd, err := f.use(at.dir)
	if err != nil {
		return nil, err
	}
	defer f.done(at.dir, fd)
	var st unix.Statx_t
	info, err := f.lookAhead(ent.owner.layer, fd, at.name, &st)
	if err != nil {
		return nil, err
	}
	n, err := f.instantiate(dir, ent, info, &st, fd)
	if err != nil {
		return nil, err
	}
	if out != nil {
		f.fillAttr(n, &st, out)
	}
	return n, nil
}

// lookAhead is look, and tells from how long that took whether objects come from the disk, where nothing else does: listings of a
// layer with a catalog do not. That one was in memory tells nothing: the disk gives many at once.
func (f *FS) lookAhead(l *layer, dirfd int, name string, st *unix.Statx_t) (objectInfo, error) {
	if l.catalog.get() == nil {
		return f.look(l, dirfd, name, st)
	}
	start := time.Now()
	info, err := f.look(l, dirfd, name, st)
	if took := time.Since(start); took > coldBase {
		f.ahead.note(took, 1, 0)
	}
	return info, err
}

// instantiate makes the node of an entry whose object has been looked at.
func (f *FS) instantiate(dir *Node, ent *dirent, info objectInfo, st *unix.Statx_t, fd int) (*Node, error) {
	typ := info.meta.Type()
	if typ != unix.S_IFDIR && (st.Nlink > 1 || f.hasLinked(f.inoOf(ent.owner, fd, ent.name, st))) {
		return f.linkedNode(dir, ent, info, st, fd)
	}
	n := &Node{}
	if typ == unix.S_IFDIR {
		n.dir = newDirState(f.sub(ent.owner, ent.name))
		lowers := ent.parts()
		if info.redirect {
			var err error
			if lowers, err = f.followRedirect(fd, ent.name); err != nil {
				return nil, err
			}
			n.dir.stack = append(n.dir.stack, lowers...)
		} else {
			for _, l := range lowers {
				n.dir.stack = append(n.dir.stack, f.sub(l, ent.name))
			}
		}
	} else {
		n.back = place{ent.owner, ent.name}
	}
	if err := f.adopt(n, info, st, fd, ent.name); err != nil {
		return nil, err
	}
	f.attach(dir, ent, n)
	return n, nil
}

// adopt fills in what a look at a node's object told: name in the directory
// fd. Needs the right to read FS.tree.
func (f *FS) adopt(n *Node, info objectInfo, st *unix.Statx_t, fd int, name string) error {
	n.meta = info.meta
	n.backIno = f.inoOf(n.where().dir, fd, name, st)
	n.ino = n.backIno
	if info.hasCap {
		n.flags |= flagCap
	}
	if info.hasACL {
		n.flags |= flagACL
	}
	if info.origin {
		if err := f.readOrigin(n, fd, name, st); err != nil {
			return err
		}
	} else if t := n.meta.Type(); t != unix.S_IFREG && t != unix.S_IFDIR && f.inUpper(n) {
		if r, ok := f.work.apart.get(st.Ino); ok {
			n.ino, n.nlink = r.ino, r.nlink
			if r.many {
				n.flags |= flagIndexed
			}
		}
	}
	if info.nlink {
		return f.readNlink(n, fd, name)
	}
	return nil
}

// attach makes n the node of ent in dir. Needs dir.dir.mu, and linkMu if n has a
// name already, or FS.tree exclusively.
func (f *FS) attach(dir *Node, ent *dirent, n *Node) {
	ent.node = n
	ent.typ = f.retype(dir, ent, dtype(n.meta.Mode))
	dir.dir.children.Add(1)
	if n.parent == nil {
		n.parent, n.ent = dir, ent
		return
	}
	f.aliases[n] = append(f.aliases[n], alias{dir, ent})
}

// retype corrects an entry's type, and the count of subdirectories with it.
func (f *FS) retype(dir *Node, ent *dirent, typ uint8) uint8 {
	if typ != ent.typ && !ent.gone {
		if typ == unix.DT_DIR {
			dir.dir.subdirs++
		}
		if ent.typ == unix.DT_DIR {
			dir.dir.subdirs--
		}
	}
	return typ
}

// hasLinked tells whether there is a node for an object that has, or had, several names: the name it was found by may be gone,
// and this may be the last one.
func (f *FS) hasLinked(key uint64) bool {
	f.linkMu.Lock()
	defer f.linkMu.Unlock()
	return f.links[key] != nil
}

// linkedNode gives the one node of an object with several names. Needs dir.dir.mu
// or FS.tree exclusively.
func (f *FS) linkedNode(dir *Node, ent *dirent, info objectInfo, st *unix.Statx_t, fd int) (*Node, error) {
	key := f.inoOf(ent.owner, fd, ent.name, st)
	f.linkMu.Lock()
	defer f.linkMu.Unlock()
	if n := f.links[key]; n != nil {
		f.attach(dir, ent, n)
		// The object may have been copied up under another name since the
		// entry was merged: what the caller read describes the old place.
		if n.layer() != ent.owner.layer {
			p := n.where()
			pfd, err := f.use(p.dir)
			if err != nil {
				return nil, err
			}
			defer f.done(p.dir, pfd)
			return n, sys.Stat(pfd, p.name, st)
		}
		return n, nil
	}
	n := &Node{back: place{ent.owner, ent.name}, flags: flagLinked}
	if f.upper != nil && n.layer() != f.upper {
		found, err := f.adoptIndexed(n, key, st)
		if err != nil {
			return nil, err
		}
		if found {
			f.links[key] = n
			f.links[n.backIno] = n
			f.attach(dir, ent, n)
			return n, nil
		}
	}
	if err := f.adopt(n, info, st, fd, ent.name); err != nil {
		return nil, err
	}
	if n.flags&flagIndexed != 0 && f.work.indexed[n.ino] {
		// This name may go before the others: the index has the one that
		// stays as long as any does.
		n.back = place{f.work.index, strconv.FormatUint(n.ino, 16)}
	}
	f.links[n.backIno] = n
	if n.ino != n.backIno {
		f.links[n.ino] = n
	}
	f.attach(dir, ent, n)
	return n, nil
}

// unlinkKeys removes n from the nodes found by inode.
func (f *FS) unlinkKeys(n *Node) {
	f.linkMu.Lock()
	defer f.linkMu.Unlock()
	for _, key := range [...]uint64{n.ino, n.backIno} {
		if f.links[key] == n {
			delete(f.links, key)
		}
	}
}
