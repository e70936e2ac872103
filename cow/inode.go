package cow

import "math/bits"

// inoBits is how many bits of an inode number come from the disk; the number
// of its inode space stands above them.
const inoBits = 48

// inoSource numbers the inode spaces of a stack: layers on one filesystem
// share one, so that an object keeps its number when it moves between them.
type inoSource struct {
	spaces []inoSpace
	roots  map[inoSpace]bool
}

// inoSpace is a filesystem; ino tells apart a layer that is listed twice, all
// of whose objects would otherwise be two of one number.
type inoSpace struct {
	dev, ino uint64
}

// add gives the number of the inode space of a layer on filesystem dev whose
// root is inode root.
func (s *inoSource) add(dev, root uint64) uint16 {
	space := inoSpace{dev: dev}
	if s.roots == nil {
		s.roots = make(map[inoSpace]bool)
	}
	if s.roots[inoSpace{dev, root}] {
		space.ino = root + uint64(len(s.spaces))<<inoBits
	}
	s.roots[inoSpace{dev, root}] = true
	for i, have := range s.spaces {
		if have == space {
			return uint16(i)
		}
	}
	s.spaces = append(s.spaces, space)
	return uint16(len(s.spaces) - 1)
}

// unionIno gives the number that the union shows for inode ino of a layer. The
// first space keeps the numbers of the disk.
func unionIno(l *layer, ino uint64) uint64 {
	if l.index == 0 {
		return ino
	}
	if bits.Len64(ino) <= inoBits {
		return ino | uint64(l.index)<<inoBits
	}
	// A filesystem that uses high bits: mix them down. Two of its files may
	// then share a number; hard links are told by it, so such a filesystem is
	// right for layers only as long as that does not happen.
	return (ino^ino>>inoBits*0x9e3779b97f4a7c15)&(1<<inoBits-1) | uint64(l.index)<<inoBits
}
