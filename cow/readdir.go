package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// DirEntry is one entry of a listing.
type DirEntry struct {
	Name   string
	Ino    uint64
	Type   uint8  // DT_ value
	Cookie uint64 // the place after this entry
}

// The cookies of "." and ".."; those of entries follow.
const cookieDots = 2

// ReadDir lists a directory from the place cookie, 0 for its begin, until fn
// says stop. Entries keep their cookies while others come and go. The entries
// "." and ".." come first.
func (f *FS) ReadDir(n *Node, cookie uint64, fn func(DirEntry) (more bool)) error {
	return f.readDir(n, cookie, func(e DirEntry, _ *dirent) bool { return fn(e) })
}

// ReadDirPlus is ReadDir with the node of each entry, with one reference that
// fn takes over if it returns true, and its attributes. Both are nil for "."
// and "..", and for an entry whose object cannot be read. If wants is given,
// they are nil too for what is neither a directory nor a known node that it
// wants.
func (f *FS) ReadDirPlus(n *Node, cookie uint64, wants func(known *Node) bool, fn func(DirEntry, *Node, *Attr) (more bool)) error {
	var unwanted *Node
	err := f.readDir(n, cookie, func(e DirEntry, ent *dirent) bool {
		if ent == nil {
			return fn(e, nil, nil)
		}
		if wants != nil && ent.typ != unix.DT_DIR && (ent.node == nil || !wants(ent.node)) {
			return fn(e, nil, nil)
		}
		var attr Attr
		child, err := f.nodeOf(n, ent, &attr)
		if err != nil {
			return fn(e, nil, nil)
		}
		e.Ino, e.Type = attr.Ino, dtype(attr.Mode)
		child.refs.Add(1)
		if fn(e, child, &attr) {
			return true
		}
		unwanted = child
		return false
	})
	if unwanted != nil {
		f.forgetSpecial(unwanted, 1)
	}
	return err
}

func (f *FS) readDir(n *Node, cookie uint64, fn func(DirEntry, *dirent) bool) error {
	if n.dir == nil {
		return unix.ENOTDIR
	}
	f.tree.RLock()
	defer f.tree.RUnlock()
	n.dir.mu.Lock()
	defer n.dir.mu.Unlock()
	if n.flags&flagDeleted != 0 {
		return nil
	}
	if err := f.load(n); err != nil {
		return err
	}
	d := n.dir
	if cookie == 0 {
		d.listTo = uint64(d.next) + 1
	}
	if cookie == 0 && !fn(DirEntry{Name: ".", Ino: n.ino, Type: unix.DT_DIR, Cookie: 1}, nil) {
		return nil
	}
	if cookie <= 1 {
		up := n.ino
		if n.parent != nil {
			up = n.parent.ino
		}
		if !fn(DirEntry{Name: "..", Ino: up, Type: unix.DT_DIR, Cookie: cookieDots}, nil) {
			return nil
		}
	}
	start := uint64(0)
	if cookie > cookieDots {
		start = cookie - cookieDots
	}
	if cookie == 0 {
		f.aheadOfListing(n)
	}
	for i := d.after(start); i < len(d.order); i++ {
		ent := d.order[i]
		if d.listTo > 0 && uint64(ent.cookie) >= d.listTo {
			break // it came after the listing began: one that adds names for each that it sees must come to an end
		}
		if ent.gone {
			continue
		}
		e := DirEntry{Name: ent.name, Type: ent.typ, Cookie: uint64(ent.cookie) + cookieDots}
		var err error
		if e.Ino, err = f.entryIno(ent); err != nil {
			return err
		}
		if !fn(e, ent) {
			return nil
		}
	}
	return nil
}

// entryIno gives the inode number of an entry without making its node. An
// upper object may have that of what it was copied up from.
func (f *FS) entryIno(ent *dirent) (uint64, error) {
	if ent.node != nil {
		return ent.node.ino, nil
	}
	ino := f.listedIno(ent.owner, ent.ino)
	if f.upper == nil || ent.owner.layer != f.upper {
		return ino, nil
	}
	if r, ok := f.work.apart.get(ent.ino); ok {
		return r.ino, nil
	}
	fd, err := f.use(ent.owner)
	if err != nil {
		return 0, err
	}
	defer f.done(ent.owner, fd)
	var buf [64]byte
	var size int
	err = f.lift(fd, ent.name, func() (err error) {
		size, err = sys.Getxattr(fd, ent.name, originXattr, buf[:])
		return err
	})
	switch err {
	case nil:
		if o, err := parseOrigin(string(buf[:size])); err == nil {
			return o.ino, nil
		}
		return ino, nil
	case unix.ERANGE:
		raw, err := f.liftedXattr(fd, ent.name, originXattr)
		if err != nil {
			return 0, err
		}
		if o, err := parseOrigin(string(raw)); err == nil {
			return o.ino, nil
		}
	case unix.ENODATA, unix.EOPNOTSUPP, unix.ENOENT, unix.EPERM, unix.EACCES:
	default:
		return 0, err
	}
	return ino, nil
}
