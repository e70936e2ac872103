package cow

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"io"
	"math/bits"
	"sync"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// inoBits is how many bits of an inode number come from the disk; the number
// of its inode space stands above them.
const inoBits = 48

// inoSource numbers the inode spaces of a stack: layers on one filesystem
// share one, so that an object keeps its number when it moves between them. A
// filesystem that is mounted inside of a layer has a space of its own. The
// numbers are keys on disk (work/index, origin records), so they must be the
// same in every union over the same layers.
type inoSource struct {
	spaces []inoSpace
	roots  map[inoSpace]bool

	mu     sync.RWMutex
	inside map[uint64]uint16 // spaces of filesystems inside of layers, by device; inherit: that of the directory
}

const (
	// firstInside begins the numbers of spaces inside of layers, of which there may be as many again.
	firstInside = 1 << 13
	// inherit stands for the space of the directory that a file is in.
	inherit = 1<<16 - 1
)

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

// enter gives a device a space, the same for the same id as far as no other id has that number.
func (s *inoSource) enter(dev uint64, id string) uint16 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.inside[dev]; ok {
		return n
	}
	if s.inside == nil {
		s.inside = make(map[uint64]uint16)
	}
	taken := make(map[uint16]bool)
	for _, n := range s.inside {
		taken[n] = true
	}
	h := fnv.New32a()
	_, _ = io.WriteString(h, id)
	at := h.Sum32()
	n := uint16(firstInside + at%firstInside)
	for ; taken[n]; at++ {
		n = uint16(firstInside + (at+1)%firstInside)
	}
	s.inside[dev] = n
	return n
}

// space is the space of a device that is not its layer's; inherit for one that is no filesystem of its own.
func (s *inoSource) space(dev uint64) (n uint16, known bool) {
	for i, have := range s.spaces {
		if have.dev == dev && have.ino == 0 {
			return uint16(i), true
		}
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	n, known = s.inside[dev]
	return n, known
}

// meet notes a device that the table of mounts does not have, of an open file. A subvolume of btrfs has inode numbers of its
// own; overlayfs shows the devices of its layers, but not their inode numbers.
func (s *inoSource) meet(dev uint64, fd int) uint16 {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) == nil && st.Type == unix.BTRFS_SUPER_MAGIC {
		return s.enter(dev, fmt.Sprint("btrfs ", st.Fsid.Val))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inside == nil {
		s.inside = make(map[uint64]uint16)
	}
	s.inside[dev] = inherit
	return inherit
}

// inoOf gives the number that the union shows for name in dirfd, an object of the directory d with status st.
func (f *FS) inoOf(d *dirRef, dirfd int, name string, st *unix.Statx_t) uint64 {
	dev := sys.Dev(st)
	if !d.layer.mounts || dev == d.layer.dev {
		return unionIno(d.layer, st.Ino)
	}
	n, known := f.inos.space(dev)
	if !known {
		n = inherit
		if fd, err := sys.Open(dirfd, cmp.Or(name, "."), unix.O_PATH|unix.O_NOFOLLOW, 0); err == nil {
			n = f.inos.meet(dev, fd)
			sys.Close(fd)
		}
	}
	if n == inherit {
		n = f.spaceOf(d)
	}
	return spaceIno(n, st.Ino)
}

// listedIno is inoOf for a name that the directory d lists with inode ino.
func (f *FS) listedIno(d *dirRef, ino uint64) uint64 { return spaceIno(f.spaceOf(d), ino) }

// spaceOf is the space of what a directory holds. One that is on another filesystem than its layer is known as such once it
// was opened.
func (f *FS) spaceOf(d *dirRef) uint16 {
	for ; d.parent != nil; d = d.parent {
		dev := d.dev.Load()
		if dev == 0 || dev == d.layer.dev {
			break
		}
		if n, known := f.inos.space(dev); known && n != inherit {
			return n
		}
	}
	return d.layer.index
}

// unionIno gives the number that the union shows for inode ino on the
// filesystem of a layer.
func unionIno(l *layer, ino uint64) uint64 { return spaceIno(l.index, ino) }

// spaceIno gives the number that the union shows for inode ino of a space. The
// first one keeps the numbers of the disk.
func spaceIno(space uint16, ino uint64) uint64 {
	if space == 0 {
		return ino
	}
	if bits.Len64(ino) <= inoBits {
		return ino | uint64(space)<<inoBits
	}
	// A filesystem that uses high bits: mix them down. Two of its files may
	// then share a number; hard links are told by it, so such a filesystem is
	// right for layers only as long as that does not happen.
	return (ino^ino>>inoBits*0x9e3779b97f4a7c15)&(1<<inoBits-1) | uint64(space)<<inoBits
}

// spaceIn is the space of a number that the union shows.
func spaceIn(ino uint64) uint16 { return uint16(ino >> inoBits) }
