package cow

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Changes calls fn for every difference between the union and its lower
// layers: parents before children, a deletion before an addition below the
// same name. It walks the upper alone, but for directories that were renamed
// with lower content, all of which is new at its place, and for further names
// of copied-up hard links.
//
// A Change is valid during the call only.
func (f *FS) Changes(ctx context.Context, fn func(*Change) error) error {
	if f.upper == nil {
		return nil
	}
	w := newWalker(ctx, f, fn)
	if err := w.rootChange(); err != nil {
		return err
	}
	if err := w.dir(f.root, ".", false); err != nil {
		return err
	}
	if !w.needAliases() {
		return nil
	}
	return w.aliases(f.root, ".", w.aliasSpaces())
}

// Walk calls fn for every object of the merged tree as if it had been added:
// parents before children, the root first.
func (f *FS) Walk(ctx context.Context, fn func(*Change) error) error {
	w := newWalker(ctx, f, fn)
	if err := w.emit(f.root, ".", Added, false); err != nil {
		return err
	}
	return w.dir(f.root, ".", true)
}

// walker is one walk under way.
type walker struct {
	f     *FS
	ctx   context.Context
	fn    func(*Change) error
	links map[uint64]string // the first path of nodes with several names, by inode
	lower map[uint64]bool   // those of them that may have names in lower layers alone
	named map[string]bool   // all paths of such nodes that were emitted
	dirs  map[string]bool   // directories that were emitted
}

func newWalker(ctx context.Context, f *FS, fn func(*Change) error) *walker {
	return &walker{
		f: f, ctx: ctx, fn: fn,
		links: make(map[uint64]string), lower: make(map[uint64]bool), named: make(map[string]bool), dirs: make(map[string]bool),
	}
}

// found is one entry of a directory as the walk saw it.
type found struct {
	name    string
	node    *Node // with a reference; nil: deleted
	below   bool
	inUpper bool
	opaque  bool // hides what the lower layers have at its path
	moved   bool // its lower content comes from another path
}

// dir walks below a directory; all takes every entry for new.
func (w *walker) dir(n *Node, path string, all bool) error {
	entries, err := w.f.entries(n, all)
	defer func() {
		for _, e := range entries {
			if e.node != nil {
				w.f.Forget(e.node, 1)
			}
		}
	}()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		child := join(path, e.name)
		if e.node == nil {
			if err := w.fn(&Change{Path: child, Kind: Deleted}); err != nil {
				return err
			}
			continue
		}
		kind := Added
		if e.below && !all {
			kind = Modified
		}
		if err := w.emit(e.node, child, kind, e.opaque && !all); err != nil {
			return err
		}
		if e.node.dir != nil {
			if err := w.dir(e.node, child, all || e.moved); err != nil {
				return err
			}
		}
	}
	return nil
}

// entries lists what a walk has to look at: everything, or the upper's part.
func (f *FS) entries(n *Node, all bool) ([]found, error) {
	f.tree.Lock()
	defer f.tree.Unlock()
	if err := f.load(n); err != nil {
		return nil, err
	}
	var list []found
	if !all {
		for name, h := range n.dir.hidden {
			if h.below {
				list = append(list, found{name: name})
			}
		}
		slices.SortFunc(list, func(a, b found) int { return strings.Compare(a.name, b.name) })
	}
	for _, ent := range sorted(n.dir.order) {
		inUpper := f.upper != nil && ent.owner.layer == f.upper
		if ent.gone || !all && !inUpper {
			continue
		}
		child, err := f.nodeOf(n, ent, nil)
		if err != nil {
			return list, err
		}
		child.refs.Add(1)
		e := found{name: ent.name, node: child, below: ent.below, inUpper: inUpper}
		if child.dir != nil && inUpper {
			if err := f.load(child); err != nil {
				return append(list, e), err
			}
			merged := len(child.dir.stack) > 1
			e.moved = merged && !f.inPlace(n, child, ent.name)
			e.opaque = ent.below && (!merged || e.moved)
		}
		list = append(list, e)
	}
	return list, nil
}

// sorted gives entries by name, so that equal trees give equal streams.
func sorted(entries []*dirent) []*dirent {
	byName := slices.Clone(entries)
	slices.SortFunc(byName, func(a, b *dirent) int { return strings.Compare(a.name, b.name) })
	return byName
}

// inPlace tells whether a directory merges with the lower directory of its own
// name in its own parent.
func (f *FS) inPlace(parent, child *Node, name string) bool {
	lower := child.dir.stack[1]
	if lower.name != name {
		return false
	}
	for _, d := range parent.dir.stack {
		if d == lower.parent || d.layer == lower.layer && lower.parent != nil && d.path() == lower.parent.path() {
			return true
		}
	}
	return false
}

// emit reports one object.
func (w *walker) emit(n *Node, path string, kind ChangeKind, opaque bool) error {
	c := &Change{Path: path, Kind: kind, Opaque: opaque}
	if n.dir != nil {
		w.dirs[path] = true
	}
	f := w.f
	f.tree.RLock()
	linked := n.flags&flagLinked != 0
	if linked && (!f.inUpper(n) || n.flags&flagIndexed != 0) {
		w.lower[n.ino] = true
	}
	f.tree.RUnlock()
	if linked {
		w.named[path] = true
		if first, ok := w.links[n.ino]; ok {
			c.LinkTo = first
		} else {
			w.links[n.ino] = path
		}
	}
	var a Attr
	if err := f.Getattr(n, &a); err != nil {
		return &PathError{Op: "read attributes of", Path: path, Err: err}
	}
	f.tree.RLock()
	c.Meta = n.meta
	f.tree.RUnlock()
	c.Size = a.Size
	if n.Type() != unix.S_IFREG {
		c.Size = 0
	}
	c.Mtime = time.Unix(a.Mtime.Sec, int64(a.Mtime.Nsec))
	if c.LinkTo != "" {
		return w.fn(c)
	}
	var err error
	if c.Xattrs, err = f.xattrs(n); err != nil {
		return &PathError{Op: "read extended attributes of", Path: path, Err: err}
	}
	switch n.Type() {
	case unix.S_IFLNK:
		if c.Target, err = f.Readlink(n); err != nil {
			return &PathError{Op: "read symlink", Path: path, Err: err}
		}
	case unix.S_IFREG:
		c.Open = func() (io.ReadCloser, error) { return &reader{f: f, n: n}, nil }
	}
	return w.fn(c)
}

// rootChange reports the root if the upper has given it another owner, mode or
// attributes than the topmost layer has. Its times alone are no change.
func (w *walker) rootChange() error {
	f := w.f
	if len(f.layers) == 1 {
		return w.emit(f.root, ".", Added, false)
	}
	top := f.layers[1]
	fd, err := f.use(top.root)
	if err != nil {
		return err
	}
	defer f.done(top.root, fd)
	var st unix.Statx_t
	info, err := f.look(top, fd, "", &st)
	if err != nil {
		return err
	}
	before, err := readXattrs(top, fd, "")
	if err != nil {
		return err
	}
	now, err := f.xattrs(f.root)
	if err != nil {
		return err
	}
	w.dirs["."] = true
	if info.meta == f.root.meta && sameXattrs(before, now) {
		return nil
	}
	return w.emit(f.root, ".", Modified, false)
}

func sameXattrs(a, b map[string][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for name, value := range a {
		if other, ok := b[name]; !ok || string(other) != string(value) {
			return false
		}
	}
	return true
}

// xattrs reads the attributes that the image sees of a node.
func (f *FS) xattrs(n *Node) (map[string][]byte, error) {
	f.tree.RLock()
	defer f.tree.RUnlock()
	fd, name, p, err := f.reach(n)
	if err != nil {
		return nil, err
	}
	defer p.put()
	return readXattrs(n.layer(), fd, name)
}

// needAliases tells whether nodes that were reported, or copied up, may have
// names that only a lower layer holds.
func (w *walker) needAliases() bool {
	w.f.linkMu.Lock()
	defer w.f.linkMu.Unlock()
	return len(w.lower) > 0 || w.f.work != nil && len(w.f.work.indexed) > 0
}

// isAlias tells whether a lower entry is a name of a node that was reported or
// copied up. Needs FS.tree.
func (w *walker) isAlias(ent *dirent) bool {
	f := w.f
	if ent.owner.layer == f.upper {
		return false
	}
	ino := f.listedIno(ent.owner, ent.ino)
	if w.lower[ino] {
		return true
	}
	f.linkMu.Lock()
	defer f.linkMu.Unlock()
	return f.work.indexed[ino]
}

// aliasSpaces are the filesystems that such nodes are on: no other has further names of them.
func (w *walker) aliasSpaces() map[uint16]bool {
	spaces := make(map[uint16]bool)
	for ino := range w.lower {
		spaces[spaceIn(ino)] = true
	}
	if w.f.work != nil {
		w.f.linkMu.Lock()
		defer w.f.linkMu.Unlock()
		for ino := range w.f.work.indexed {
			spaces[spaceIn(ino)] = true
		}
	}
	return spaces
}

// mayHold tells whether a directory, or one below it, has a lower part on one of the filesystems.
func (w *walker) mayHold(n *Node, spaces map[uint16]bool) (bool, error) {
	f := w.f
	f.tree.RLock()
	defer f.tree.RUnlock()
	for _, ref := range n.dir.stack {
		if ref.layer == f.upper {
			continue
		}
		fd, err := f.use(ref) // then it is known what it is on
		if err == unix.EACCES && ref.layer.owners == OwnersReal {
			continue // as in aliases
		}
		if err != nil {
			return false, err
		}
		f.done(ref, fd)
		if spaces[f.spaceOf(ref)] {
			return true, nil
		}
		path := ref.path() + "/"
		for _, m := range ref.layer.inside {
			if space, _ := f.inos.space(m.dev); spaces[space] && strings.HasPrefix(m.path, path) {
				return true, nil
			}
		}
	}
	return false, nil
}

// aliases reports the names of such nodes that only a lower layer holds, and
// the directories on the way to them. It reads listings alone.
func (w *walker) aliases(n *Node, path string, spaces map[uint16]bool) error {
	f := w.f
	f.tree.Lock()
	err := f.load(n)
	var names, dirs []string
	if err == nil {
		for _, ent := range sorted(n.dir.order) {
			switch {
			case ent.gone:
			case ent.typ == unix.DT_DIR:
				dirs = append(dirs, ent.name)
			case w.isAlias(ent) && !w.named[join(path, ent.name)]:
				names = append(names, ent.name)
			}
		}
	}
	f.tree.Unlock()
	if w.isShut(n, err) {
		return nil // nobody has changed anything there, nor could look
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := w.alias(n, path, name); err != nil {
			return err
		}
	}
	for _, name := range dirs {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		child, err := f.Lookup(n, name, nil)
		if w.isShut(n, err) {
			continue // only the names can be seen
		}
		if err != nil {
			return err
		}
		holds, err := w.mayHold(child, spaces)
		if holds {
			err = w.aliases(child, join(path, name), spaces)
		}
		f.Forget(child, 1)
		if err != nil {
			return err
		}
	}
	return nil
}

// isShut tells whether an error is that of a directory which the union may not read, as in the root of a machine.
func (w *walker) isShut(dir *Node, err error) bool {
	return errors.Is(err, unix.EACCES) && w.f.MayBeShut(dir)
}

// alias reports one name of a copied-up hard link.
func (w *walker) alias(dir *Node, path, name string) error {
	child, err := w.f.Lookup(dir, name, nil)
	if w.isShut(dir, err) {
		return nil // only the name can be seen
	}
	if err != nil {
		return err
	}
	defer w.f.Forget(child, 1)
	if err := w.parents(dir, path); err != nil {
		return err
	}
	return w.emit(child, join(path, name), Modified, false)
}

// parents reports a directory and those above it that were not yet.
func (w *walker) parents(n *Node, path string) error {
	if w.dirs[path] {
		return nil
	}
	w.f.tree.RLock()
	up := n.parent
	w.f.tree.RUnlock()
	if up != nil {
		if err := w.parents(up, parentPath(path)); err != nil {
			return err
		}
	}
	return w.emit(n, path, Modified, false)
}

// join appends a name to a path in the form of Change.Path.
func join(path, name string) string {
	if path == "." {
		return name
	}
	return path + "/" + name
}

func parentPath(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i]
		}
	}
	return "."
}

// PathError is an error at a path of the union.
type PathError struct {
	Op, Path string
	Err      error
}

func (e *PathError) Error() string { return e.Op + " " + e.Path + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *PathError) Unwrap() error { return e.Err }

// reader reads a node's content from begin to end.
type reader struct {
	f   *FS
	n   *Node
	off int64
}

func (r *reader) Read(buf []byte) (int, error) {
	if len(buf) == 0 {
		return 0, nil
	}
	n, err := r.f.Read(r.n, buf, r.off)
	r.off += int64(n)
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

func (r *reader) Close() error { return nil }
