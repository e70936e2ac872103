package cow

import (
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
)

// Node is one inode of the union.
type Node struct {
	// Handle is for the caller's use; the union never reads it.
	Handle uint64

	refs    atomic.Int64 // the caller's references
	ino     uint64       // as the union shows it; immutable
	backIno uint64       // of the object on disk; guarded by FS.tree
	meta    ondisk.Meta  // guarded by FS.tree
	parent  *Node        // a directory that has the node; guarded by FS.tree
	ent     *dirent      // its entry there; nil: the root, or no name left
	back    place        // of everything but directories; guarded by FS.tree
	dir     *dirState    // of directories
	file    *fileState   // of regular files in use; guarded by FS.linkMu
	nlink   int32        // what to add to the link count on disk
	flags   nodeFlags    // guarded by FS.tree
}

// alias is a name of a node besides Node.parent and Node.ent that the caller
// has looked up. It keeps its directory in memory.
type alias struct {
	dir *Node
	ent *dirent
}

// nodeFlags are facts about a node that spare a system call.
type nodeFlags uint8

const (
	flagCap      nodeFlags = 1 << iota // has security.capability
	flagACL                            // has an access ACL
	flagLinked                         // has more than one name; is in FS.links
	flagPartly                         // content is partly in a lower layer
	flagIndexed                        // its link count is kept in nlinkXattr
	flagDeleted                        // has no name in the union any more
	flagNameless                       // has none on disk: reached by a pinned descriptor
)

// dirState is what a directory node knows of its entries. Guarded by its mu,
// or by FS.tree held exclusively.
type dirState struct {
	mu       sync.Mutex
	top      *dirRef   // stack[0]; guarded by FS.tree alone
	stack    []*dirRef // the directories that merge, topmost first
	loaded   bool
	order    []*dirent         // by cookie; holds removed entries for a while
	table    nameTable         // finds them by name
	gone     int               // how many of order are removed
	next     uint32            // the last cookie given
	listTo   uint64            // the first cookie after the last listing that was begun; 0: none was
	hidden   map[string]hiding // names that are deleted, or have a stale whiteout
	subdirs  int               // if loaded or counted
	counted  bool              // the number of subdirectories is known without the listing
	children atomic.Int32      // names by which known nodes are in the listing
	acl      acl               // the default ACL, if aclKnown
	aclKnown bool
}

func newDirState(stack ...*dirRef) *dirState {
	return &dirState{top: stack[0], stack: stack}
}

// dirent is one name of a merged listing.
type dirent struct {
	name   string
	node   *Node      // nil: not known to the caller
	lowers *[]*dirRef // of a directory that merges: where its lower parts lie
	owner  *dirRef    // the directory on disk that owns the name
	ino    uint64     // of the object on disk, as its directory lists it
	cookie uint32
	typ    uint8 // DT_ value; DT_UNKNOWN: not known before a look
	below  bool  // a lower layer has the name too: removal needs a whiteout
	gone   bool
}

// parts are where the lower parts of a directory that merges lie, topmost
// first.
func (e *dirent) parts() []*dirRef {
	if e.lowers == nil {
		return nil
	}
	return *e.lowers
}

// setParts is the inverse of parts. Few entries have any.
func (e *dirent) setParts(parts []*dirRef) {
	e.lowers = nil
	if len(parts) > 0 {
		e.lowers = &parts
	}
}

// IsDir tells whether the node is a directory.
func (n *Node) IsDir() bool { return n.dir != nil }

// Type is the S_IFMT type.
func (n *Node) Type() uint32 { return n.meta.Type() }

// layer is the layer that holds the node now. Needs FS.tree.
func (n *Node) layer() *layer {
	if n.dir != nil {
		return n.dir.top.layer
	}
	return n.back.dir.layer
}

// where is the node's place on disk. Needs FS.tree.
func (n *Node) where() place {
	if n.dir != nil {
		return n.dir.top.place()
	}
	return n.back
}

// upperDir is the directory in the upper, or nil. Needs FS.tree.
func (f *FS) upperDir(n *Node) *dirRef {
	if d := n.dir.top; f.upper != nil && d.layer == f.upper {
		return d
	}
	return nil
}

// inUpper tells whether the node was created in the upper or copied up. Needs
// FS.tree.
func (f *FS) inUpper(n *Node) bool { return f.upper != nil && n.layer() == f.upper }

// LowerDir is the directory of the lower layer that holds a node now, empty for one of the upper.
func (f *FS) LowerDir(n *Node) string {
	f.tree.RLock()
	defer f.tree.RUnlock()
	i := slices.Index(f.layers, n.layer())
	if f.upper != nil {
		i-- // the first
	}
	if i < 0 {
		return ""
	}
	return f.cfg.Lowers[i].Dir
}

// MayBeShut tells whether a node lies in a lower layer with real owners, such as the root of a machine, of which the union may not
// read everything.
func (f *FS) MayBeShut(n *Node) bool {
	f.tree.RLock()
	defer f.tree.RUnlock()
	return !f.inUpper(n) && n.layer().owners == OwnersReal
}

// Forget takes back count references that Lookup and the calls that create
// gave out. A node without references is dropped from memory.
func (f *FS) Forget(n *Node, count uint64) {
	f.tree.RLock()
	f.linkMu.Lock() // a lookup may be giving n a name
	p, linked := n.parent, n.flags&flagLinked != 0
	f.linkMu.Unlock()
	if p == nil || linked {
		f.tree.RUnlock()
		f.forgetSpecial(n, count)
		return
	}
	p.dir.mu.Lock()
	drop := n.refs.Add(-int64(count)) <= 0 && !n.hasChildren()
	last := false
	if drop {
		n.ent.node = nil
		n.parent = nil
		last = p.dir.children.Add(-1) == 0 && p.refs.Load() <= 0
		f.release(n)
	}
	p.dir.mu.Unlock()
	f.tree.RUnlock()
	if last {
		f.forgetSpecial(p, 0)
	}
}

func (n *Node) hasChildren() bool { return n.dir != nil && n.dir.children.Load() > 0 }

// forgetSpecial forgets nodes that are not found through one parent alone, and
// directories that only their entries kept.
func (f *FS) forgetSpecial(n *Node, count uint64) {
	f.tree.Lock()
	defer f.tree.Unlock()
	n.refs.Add(-int64(count))
	f.dropUnused(n)
}

// dropUnused drops n, and then its parents, if nothing refers to them. Needs
// FS.tree exclusively.
func (f *FS) dropUnused(n *Node) {
	if n.refs.Load() > 0 || n.hasChildren() || n == f.root {
		return
	}
	if n.flags&flagNameless != 0 {
		delete(f.orphans, n)
		f.fds.unpin(&n.file.fd)
	}
	if n.flags&flagLinked != 0 {
		f.unlinkKeys(n)
	}
	var parents []*Node
	for _, a := range f.aliases[n] {
		a.ent.node = nil
		a.dir.dir.children.Add(-1)
		parents = append(parents, a.dir)
	}
	delete(f.aliases, n)
	if p := n.parent; p != nil {
		n.ent.node = nil
		n.ent, n.parent = nil, nil
		p.dir.children.Add(-1)
		parents = append(parents, p)
	}
	f.release(n)
	for _, p := range parents {
		f.dropUnused(p)
	}
}

// dropIdle drops a node that an operation has made for itself, if it has. Needs
// FS.tree exclusively.
func (f *FS) dropIdle(n *Node) {
	if n != nil && n.parent != nil {
		f.dropUnused(n)
	}
}

// release closes what a dropped node holds.
func (f *FS) release(n *Node) {
	if n.dir != nil {
		for _, d := range n.dir.stack {
			f.dropRef(d)
		}
	}
	if n.file != nil {
		f.releaseFile(n)
	}
}

// dtype gives the DT_ value of a mode.
func dtype(mode uint32) uint8 { return uint8(mode & unix.S_IFMT >> 12) }
