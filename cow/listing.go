package cow

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/whiteout"
)

// load reads and merges the listings of a directory once. Afterwards a lookup
// touches only the layer that owns the name, and a name that is nowhere costs
// no system call. Needs n.dir.mu, or FS.tree exclusively.
func (f *FS) load(n *Node) error {
	d := n.dir
	if d.loaded {
		return nil
	}
	start, looked := time.Now(), 0
	m := merge{fs: f, byName: make(map[string]int)}
	for i, ref := range d.stack {
		opaque, disk, err := m.addDir(ref)
		if err != nil {
			return fmt.Errorf("list layer directory %s: %w", ref.path(), err)
		}
		if disk {
			looked++
		}
		if opaque {
			f.cutStack(d, i+1)
			break
		}
	}
	m.finish(d)
	d.loaded = true
	if looked > 0 {
		f.ahead.note(time.Since(start), looked, len(m.names))
	}
	return nil
}

// merge collects the listings of one directory, topmost layer first. What the
// upper says of a name and what the lower layers say among themselves are kept
// apart: the removal of an upper object needs a whiteout exactly where the
// lower layers alone would show the name.
type merge struct {
	fs     *FS
	arena  nameArena
	byName map[string]int // index in names
	names  []mergeName
}

// mergeName is what the layers seen so far say of one name.
type mergeName struct {
	name     string
	upper    *dirRef // set if the upper has the name
	lower    *dirRef // the topmost lower directory that has it, still visible
	more     []*dirRef
	closedBy *dirRef // hides the name in all layers below this one
	upperTyp uint8
	lowerTyp uint8
	whiteout bool           // the upper deletes the name
	style    whiteout.Style // of that whiteout
	ino      uint64
}

// addDir merges one layer's directory below those added before, and tells
// whether it hides everything further down. disk says that the directory was read.
func (m *merge) addDir(ref *dirRef) (opaque, disk bool, err error) {
	sink := mergePart{m, ref}
	if c, at, path := ref.catalogued(); c != nil {
		if opaque, ok := c.list(at, path, &m.arena, sink); ok {
			return opaque, false, nil
		}
		ref.block.Store(blockNone)
	}
	fd, err := m.fs.use(ref)
	if err != nil {
		return false, true, err
	}
	defer m.fs.done(ref, fd)
	opaque, err = (&scanner{fd: fd, arena: &m.arena, m: m, ref: ref}).scan(sink)
	return opaque, true, err
}

// listingSink takes what one directory of a layer says.
type listingSink interface {
	has(name string, typ uint8, ino uint64)
	deletes(name string, style whiteout.Style) // from the layers below
}

// mergePart is the part of a merge that one layer has.
type mergePart struct {
	m   *merge
	ref *dirRef
}

func (p mergePart) has(name string, typ uint8, ino uint64)    { p.m.add(p.ref, name, typ, ino) }
func (p mergePart) deletes(name string, style whiteout.Style) { p.m.delete(p.ref, name, style) }

// scanner reads a directory of a layer.
type scanner struct {
	fd    int
	arena *nameArena
	m     *merge // nil for a layer of its own
	ref   *dirRef
}

// read does what reads attributes of a name, or of the directory with an empty one.
func (s *scanner) read(name string, do func() error) error {
	if s.m == nil {
		return do()
	}
	return s.m.read(s.ref, s.fd, name, do)
}

// scan tells sink what the directory says, with names that arena keeps; opaque says that it hides those of layers below.
func (s *scanner) scan(sink listingSink) (opaque bool, err error) {
	fd := s.fd
	var marks whiteout.DirMarks
	err = s.read("", func() (err error) {
		marks, err = whiteout.ReadDir(fd)
		return err
	})
	if err != nil {
		return false, err
	}
	err = sys.List(fd, func(raw []byte, typ uint8, ino uint64) error {
		name := s.arena.keep(raw)
		switch mark, target := whiteout.ParseName(name); mark {
		case whiteout.Opaque:
			marks.Opaque = true
			return nil
		case whiteout.Meta:
			return nil
		case whiteout.Delete:
			sink.deletes(target, whiteout.File)
			return nil
		}
		if typ == unix.DT_CHR || typ == unix.DT_UNKNOWN {
			var st unix.Statx_t
			if err := sys.Stat(fd, name, &st); err != nil {
				return fmt.Errorf("stat %q: %w", name, err)
			}
			if whiteout.IsDevice(&st) {
				sink.deletes(name, whiteout.Device)
				return nil
			}
			typ = dtype(uint32(st.Mode))
		}
		if typ == unix.DT_REG && marks.Xattr {
			deleted := false
			if err := s.read(name, func() (err error) {
				deleted, err = whiteout.IsXattrWhiteout(fd, name)
				return err
			}); err != nil {
				return err
			}
			if deleted {
				sink.deletes(name, whiteout.Device)
				return nil
			}
		}
		if typ == unix.DT_REG && marks.Placeholders {
			meta := ondisk.Meta{Mode: unix.S_IFREG}
			if err := s.read(name, func() (err error) {
				meta, err = override(fd, name, ondisk.Meta{Mode: unix.S_IFREG})
				return err
			}); err != nil {
				return fmt.Errorf("read type of %q: %w", name, err)
			}
			typ = dtype(meta.Mode)
		}
		sink.has(name, typ, ino)
		return nil
	})
	return marks.Opaque, err
}

// at gives the record of name.
func (m *merge) at(name string) *mergeName {
	i, ok := m.byName[name]
	if !ok {
		i = len(m.names)
		m.byName[name] = i
		m.names = append(m.names, mergeName{name: name})
	}
	return &m.names[i]
}

// add records that ref has name.
func (m *merge) add(ref *dirRef, name string, typ uint8, ino uint64) {
	e := m.at(name)
	if e.upper == nil && e.lower == nil {
		e.ino = ino
	}
	switch {
	case ref.layer == m.fs.upper:
		e.upper, e.upperTyp = ref, typ
	case e.closedBy != nil && e.closedBy != ref:
		// hidden
	case e.lower == nil:
		e.lower, e.lowerTyp = ref, typ
		if typ != unix.DT_DIR {
			e.closedBy = ref
		}
	case typ == unix.DT_DIR:
		e.more = append(e.more, ref)
	default:
		e.closedBy = ref
	}
}

// delete records that ref deletes name from the layers below it. A layer that
// both has and deletes a name shows its own.
func (m *merge) delete(ref *dirRef, name string, style whiteout.Style) {
	e := m.at(name)
	if ref.layer == m.fs.upper {
		if !e.whiteout || style == whiteout.Device {
			e.whiteout, e.style = true, style
		}
	} else if e.closedBy == nil {
		e.closedBy = ref
	}
}

// finish stores the merged listing in d.
func (m *merge) finish(d *dirState) {
	d.subdirs = 0
	d.order, d.table = make([]*dirent, 0, len(m.names)), newNameTable(len(m.names))
	ents := make([]dirent, len(m.names)) // one allocation: each alone would be rounded up
	for i := range m.names {
		e := &m.names[i]
		switch {
		case e.upper != nil:
			ent := &ents[i]
			*ent = dirent{name: e.name, owner: e.upper, ino: e.ino, typ: e.upperTyp, below: e.lower != nil}
			if e.upperTyp == unix.DT_DIR && e.lower != nil && e.lowerTyp == unix.DT_DIR && !e.whiteout {
				ent.setParts(append([]*dirRef{e.lower}, e.more...))
			}
			d.insert(ent)
		case e.whiteout:
			d.hide(e.name, hiding{style: e.style, below: e.lower != nil})
		case e.lower != nil:
			ent := &ents[i]
			*ent = dirent{name: e.name, owner: e.lower, ino: e.ino, typ: e.lowerTyp, below: true}
			ent.setParts(e.more)
			d.insert(ent)
		}
	}
}

// insert adds an entry at the end of the listing.
func (d *dirState) insert(ent *dirent) {
	if d.next == math.MaxUint32 {
		d.renumber()
	}
	d.next++
	ent.cookie = d.next
	d.order = append(d.order, ent)
	d.enter()
	if ent.typ == unix.DT_DIR {
		d.subdirs++
	}
}

// insertAt adds an entry in the place of one of the same name that is gone and had that cookie: whoever lists the directory
// meanwhile meets the name, and once. With 0 it is insert.
func (d *dirState) insertAt(ent *dirent, cookie uint32) {
	if cookie == 0 {
		d.insert(ent)
		return
	}
	ent.cookie = cookie
	at := d.after(uint64(cookie) - 1)
	if at < len(d.order) && d.order[at].cookie == cookie {
		d.order[at] = ent
		d.gone--
	} else { // it was compacted away
		d.order = slices.Insert(d.order, at, ent)
		d.rebuild()
	}
	if ent.typ == unix.DT_DIR {
		d.subdirs++
	}
	if d.find(ent.name) != ent { // the table has no gone ones after it was made anew
		d.rebuild()
	}
}

// renumber gives out cookies from the begin again, after four thousand million
// of them.
func (d *dirState) renumber() {
	d.compact()
	d.next, d.listTo = 0, 0
	for _, ent := range d.order {
		d.next++
		ent.cookie = d.next
	}
}

// compact drops removed entries.
func (d *dirState) compact() {
	d.order = slices.DeleteFunc(d.order, func(e *dirent) bool { return e.gone })
	d.gone = 0
	d.rebuild()
}

// remove takes an entry out of the listing. Cookies of others stay.
func (d *dirState) remove(ent *dirent) {
	ent.gone = true
	if ent.typ == unix.DT_DIR {
		d.subdirs--
	}
	if d.gone++; d.gone > 64 && d.gone > len(d.order)/2 {
		d.compact()
	}
}

// hiding says how a name that the union does not show is hidden.
type hiding struct {
	style whiteout.Style // of the whiteout in the upper, which another program may have written
	below bool           // a lower layer has it: without the whiteout it would show
}

// hide notes that a name is hidden.
func (d *dirState) hide(name string, h hiding) {
	if d.hidden == nil {
		d.hidden = make(map[string]hiding)
	}
	d.hidden[name] = h
}

// after gives the index in order of the first entry whose cookie is above
// cookie.
func (d *dirState) after(cookie uint64) int {
	i, _ := slices.BinarySearchFunc(d.order, cookie+1, func(e *dirent, c uint64) int {
		switch {
		case uint64(e.cookie) < c:
			return -1
		case uint64(e.cookie) > c:
			return 1
		}
		return 0
	})
	return i
}

// read reads what a layer has on an object: with lift in the upper. In a lower one with real owners, which must not change, an
// object that cannot be read has nothing: nobody but root would have written it there.
func (m *merge) read(ref *dirRef, fd int, name string, do func() error) error {
	if ref.layer == m.fs.upper {
		return m.fs.lift(fd, name, do)
	}
	if err := do(); !errors.Is(err, unix.EACCES) || ref.layer.owners != OwnersReal {
		return err
	}
	return nil
}
