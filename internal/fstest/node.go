package fstest

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// Kind is the type of a [Node].
type Kind byte

// The kinds of nodes. A whiteout occurs in layers only.
const (
	Dir      Kind = 'd'
	File     Kind = 'f'
	Symlink  Kind = 'l'
	Fifo     Kind = 'p'
	Socket   Kind = 's'
	Whiteout Kind = 'w'
)

// Node is an object of a layer or of a merged tree. Several names of one node
// are hard links of each other.
type Node struct {
	Kind     Kind
	Perm     uint32 // permission, set-id and sticky bits
	UID, GID uint32
	Mtime    unix.Timespec
	Xattrs   map[string]string
	Data     Data             // of a File
	Target   string           // of a Symlink
	Opaque   bool             // of a Dir: hides what lies below it in lower layers
	Kids     map[string]*Node // of a Dir
}

// Data is the content of a file: written extents and holes between them.
type Data struct {
	Size    int64
	Extents []Extent
}

// Extent is a written part of a file, filled from a seed.
type Extent struct {
	Off, Len int64
	Seed     uint64
}

// Names lists a directory's names in order.
func (n *Node) Names() []string { return slices.Sorted(maps.Keys(n.Kids)) }

// Merge computes what a union of layers shows. The layers come bottom first.
// Nodes other than directories are shared with the layers, so that hard links
// within one layer stay hard links.
func Merge(layers []*Node) *Node {
	var m *Node
	for _, l := range layers {
		m = merge(m, l)
	}
	return m
}

// merge puts upper over lower, which may be nil or of another kind.
func merge(lower, upper *Node) *Node {
	if upper.Kind != Dir {
		return upper
	}
	m := *upper
	m.Opaque = false
	m.Kids = map[string]*Node{}
	if lower != nil && lower.Kind == Dir && !upper.Opaque {
		maps.Copy(m.Kids, lower.Kids)
	}
	for name, k := range upper.Kids {
		if k.Kind == Whiteout {
			delete(m.Kids, name)
			continue
		}
		m.Kids[name] = merge(m.Kids[name], k)
	}
	return &m
}

// clone copies a layer, keeping hard links within it.
func clone(n *Node, seen map[*Node]*Node) *Node {
	if c, ok := seen[n]; ok {
		return c
	}
	c := *n
	c.Kids = nil
	if n.Kids != nil {
		c.Kids = map[string]*Node{}
		for name, k := range n.Kids {
			c.Kids[name] = clone(k, seen)
		}
	}
	seen[n] = &c
	return &c
}

// fill writes the bytes that seed gives at position off.
func fill(buf []byte, seed uint64, off int64) {
	for i := range buf {
		p := uint64(off) + uint64(i)
		x := seed*0x9e3779b97f4a7c15 + p>>3*0xbf58476d1ce4e5b9
		x ^= x >> 29
		x *= 0x94d049bb133111eb
		buf[i] = byte(x>>(8*(p&7))) | 1
	}
}
