package fstest

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// Spelling is how a layer on disk says that something is deleted or opaque.
type Spelling int

// The spellings of whiteouts and opaque directories.
const (
	// Device is a 0:0 character device; opaque is user.overlay.opaque=y.
	Device Spelling = iota
	// DotWh is a file .wh.NAME; opaque is a file .wh..wh..opq.
	DotWh
	// XattrWh is an empty file with user.overlay.whiteout in a directory
	// whose user.overlay.opaque is x; opaque as for Device.
	XattrWh
	// FuseOverlayfs is a 0:0 device; opaque is user.fuseoverlayfs.opaque.
	FuseOverlayfs
	// DotWhLinked is DotWh with all markers being one hard-linked file.
	DotWhLinked
)

// Layer is one lower layer and its spelling of whiteouts.
type Layer struct {
	Root     *Node
	Spelling Spelling
}

// Scene is a stack of lower layers, bottom first.
type Scene struct {
	Layers []Layer
}

// Merged is what a union of the scene's layers shows.
func (s *Scene) Merged() *Node {
	var roots []*Node
	for _, l := range s.Layers {
		roots = append(roots, l.Root)
	}
	return Merge(roots)
}

// SceneOptions bounds what [NewScene] makes.
type SceneOptions struct {
	MaxLayers int        // 1 or more
	IDs       []uint32   // owners to choose from
	AnyMode   bool       // modes that deny the owner, set-id bits, sticky
	Spellings []Spelling // to choose from
	ACLs      bool       // POSIX ACLs
	Caps      bool       // capabilities of files
	// HiddenLinks lets an upper layer hide some names of a hard-linked file
	// of a lower one. The link count of those left is then one that only a
	// scan of all layers could know.
	HiddenLinks bool
	// NeededWhiteouts leaves out whiteouts of names that no lower layer has.
	NeededWhiteouts bool
}

// NewScene makes the scene of a seed.
func NewScene(seed uint64, opt SceneOptions) *Scene {
	g := &sceneGen{rnd: rand.New(rand.NewPCG(seed, 1)), opt: opt}
	s := &Scene{}
	for range 1 + g.rnd.IntN(opt.MaxLayers) {
		s.Layers = append(s.Layers, Layer{Root: g.layer(), Spelling: opt.Spellings[g.rnd.IntN(len(opt.Spellings))]})
	}
	if opt.NeededWhiteouts {
		for i, l := range s.Layers {
			needed((&Scene{Layers: s.Layers[:i]}).Merged(), l.Root)
		}
	}
	if !opt.HiddenLinks {
		s.unlinkHidden()
	}
	return s
}

// needed removes the whiteouts in upper of what is not in lower.
func needed(lower, upper *Node) {
	for name, k := range upper.Kids {
		var below *Node
		if lower != nil && lower.Kind == Dir && !upper.Opaque {
			below = lower.Kids[name]
		}
		switch {
		case k.Kind == Whiteout && below == nil:
			delete(upper.Kids, name)
		case k.Kind == Dir:
			needed(below, k)
		}
	}
}

// unlinkHidden makes files of their own of the names of hard-linked files that
// do not all show in the merged tree.
func (s *Scene) unlinkHidden() {
	shown := map[*Node]int{}
	count(s.Merged(), shown)
	for _, l := range s.Layers {
		own := map[*Node]int{}
		count(l.Root, own)
		split(l.Root, func(n *Node) bool { return own[n] > 1 && own[n] != shown[n] })
	}
}

// count adds up the names of each node other than directories.
func count(n *Node, names map[*Node]int) {
	for _, k := range n.Kids {
		if k.Kind == Dir {
			count(k, names)
		} else {
			names[k]++
		}
	}
}

// split gives each name of the nodes that pick chooses a node of its own.
func split(n *Node, pick func(*Node) bool) {
	for name, k := range n.Kids {
		if k.Kind == Dir {
			split(k, pick)
		} else if pick(k) {
			c := *k
			n.Kids[name] = &c
		}
	}
}

type sceneGen struct {
	rnd   *rand.Rand
	opt   SceneOptions
	files []*Node // of the layer under construction, for hard links
}

func (g *sceneGen) layer() *Node {
	g.files = nil
	root := g.dir(0)
	root.Perm, root.UID, root.GID, root.Opaque = 0o777, g.opt.IDs[0], g.opt.IDs[0], false
	delete(root.Xattrs, aclAccess)
	return root
}

func (g *sceneGen) dir(depth int) *Node {
	d := g.meta(&Node{Kind: Dir, Perm: g.pick(dirPerms, 0o700), Kids: map[string]*Node{}})
	d.Opaque = g.rnd.IntN(8) == 0
	if depth == 4 {
		return d
	}
	for i, name := range allNames {
		odds := 2
		if i >= plainNames {
			odds = 12
		}
		if g.rnd.IntN(odds+depth) == 0 {
			d.Kids[name] = g.node(depth + 1)
		}
	}
	return d
}

func (g *sceneGen) node(depth int) *Node {
	switch p := g.rnd.IntN(100); {
	case p < 38:
		return g.dir(depth)
	case p < 50:
		return &Node{Kind: Whiteout}
	case p < 58:
		return g.linkable(&Node{Kind: Symlink, Perm: 0o777, Target: linkTarget(g.rnd)})
	case p < 60:
		return g.linkable(&Node{Kind: Fifo, Perm: g.pick(filePerms, 0o600)})
	case p < 62:
		return g.linkable(&Node{Kind: Socket, Perm: g.pick(filePerms, 0o600)})
	case p < 70 && len(g.files) > 0:
		return g.files[g.rnd.IntN(len(g.files))]
	}
	return g.linkable(&Node{Kind: File, Perm: g.pick(filePerms, 0o600), Data: g.data()})
}

// linkable gives a node its metadata and may have it linked later.
func (g *sceneGen) linkable(n *Node) *Node {
	g.files = append(g.files, g.meta(n))
	return n
}

func (g *sceneGen) pick(perms []uint32, need uint32) uint32 {
	p := perms[g.rnd.IntN(len(perms))]
	if !g.opt.AnyMode {
		p = p&0o777 | need
	}
	return p
}

func (g *sceneGen) meta(n *Node) *Node {
	n.UID = g.opt.IDs[g.rnd.IntN(len(g.opt.IDs))]
	n.GID = g.opt.IDs[g.rnd.IntN(len(g.opt.IDs))]
	n.Mtime = oldTime(g.rnd)
	if n.Kind == Dir || n.Kind == File {
		n.Xattrs = map[string]string{}
		for range max(0, g.rnd.IntN(5)-2) {
			n.Xattrs[fmt.Sprintf("user.%c", 'a'+g.rnd.IntN(3))] = fmt.Sprint(g.rnd.IntN(1000))
		}
	}
	if g.opt.ACLs && n.Kind != Symlink && g.rnd.IntN(12) == 0 {
		g.acl(n)
	}
	if g.opt.Caps && n.Kind == File && g.rnd.IntN(8) == 0 {
		n.Xattrs[fileCaps] = string(someCaps)
	}
	return n
}

// acl gives a node ACLs, and the permission bits that go with them.
func (g *sceneGen) acl(n *Node) {
	if n.Xattrs == nil {
		n.Xattrs = map[string]string{}
	}
	i := 1 + g.rnd.IntN(2)
	n.Xattrs[aclAccess] = string(acls[i])
	n.Perm = n.Perm&^0o777 | [...]uint32{0, 0o774, 0o755}[i]
	if n.Kind == Dir && g.rnd.IntN(2) == 0 {
		n.Xattrs[aclDefault] = string(acls[g.rnd.IntN(3)])
	}
}

func (g *sceneGen) data() Data {
	d := Data{Size: fileSize(g.rnd)}
	switch g.rnd.IntN(4) {
	case 0: // sparse
		for off := int64(0); off < d.Size; {
			e := Extent{Off: off, Len: 1 + g.rnd.Int64N(min(d.Size-off, 70000)), Seed: g.rnd.Uint64()}
			d.Extents = append(d.Extents, e)
			off += e.Len + g.rnd.Int64N(70000)
		}
	default:
		if d.Size > 0 {
			d.Extents = []Extent{{0, d.Size, g.rnd.Uint64()}}
		}
	}
	return d
}

// fileSize favours small files and the neighbourhood of powers of two.
func fileSize(r *rand.Rand) int64 {
	switch r.IntN(10) {
	case 0:
		return 0
	case 1, 2, 3:
		return r.Int64N(100)
	case 4, 5:
		return r.Int64N(9000)
	case 6:
		return int64(4096)<<r.IntN(7) + r.Int64N(3) - 1
	case 7, 8:
		return r.Int64N(70000)
	}
	return r.Int64N(600000)
}

var (
	// times before any run, so that a time that was set is told from now
	firstTime = int64(1_000_000_000)
	dirPerms  = []uint32{0o755, 0o755, 0o777, 0o777, 0o777, 0o777, 0o777, 0o777, 0o775, 0o700, 0o1777, 0o2777, 0o555, 0o711, 0}
	filePerms = []uint32{0o644, 0o644, 0o666, 0o666, 0o666, 0o666, 0o600, 0o755, 0o4755, 0o2755, 0o2644, 0o2666, 0o444, 0o222, 0}
)

func oldTime(r *rand.Rand) unix.Timespec {
	return unix.Timespec{Sec: firstTime + r.Int64N(500_000_000), Nsec: r.Int64N(1_000_000_000)}
}
