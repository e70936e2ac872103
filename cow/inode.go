package cow

import (
	"encoding/binary"
	"hash/fnv"
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
// filesystem that is mounted inside of a layer has a space of its own.
type inoSource struct {
	spaces []inoSpace
	roots  map[inoSpace]bool

	mu      sync.RWMutex
	mounted map[uint64]uint16 // by device
}

// firstMounted begins the numbers of spaces of filesystems inside of layers.
const firstMounted = 1 << 14

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

// space gives the number of the space of a filesystem that was met in a layer; id tells it from others as long as it exists, so
// that an object has the same number after the next mount.
func (s *inoSource) space(dev uint64, id func() uint64) uint16 {
	for i, have := range s.spaces {
		if have.dev == dev && have.ino == 0 {
			return uint16(i)
		}
	}
	s.mu.RLock()
	n, ok := s.mounted[dev]
	s.mu.RUnlock()
	if ok {
		return n
	}
	of := id()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mounted == nil {
		s.mounted = make(map[uint64]uint16)
	}
	if n, ok := s.mounted[dev]; ok {
		return n
	}
	taken := make(map[uint16]bool)
	for _, n := range s.mounted {
		taken[n] = true
	}
	for n = firstMounted + uint16(of%firstMounted); taken[n]; n++ {
	}
	s.mounted[dev] = n
	return n
}

// filesystemID tells the filesystem of name in dirfd from others, after the machine was started anew, too, as far as it can.
func filesystemID(dirfd int, name string, dev uint64) uint64 {
	fd, err := sys.Open(dirfd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return dev
	}
	defer sys.Close(fd)
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil || st.Fsid == (unix.Fsid{}) {
		return dev
	}
	h := fnv.New64a()
	_ = binary.Write(h, binary.NativeEndian, st.Fsid)
	return h.Sum64()
}

// inoOf gives the number that the union shows for name in dirfd, an object of layer l with status st.
func (f *FS) inoOf(l *layer, dirfd int, name string, st *unix.Statx_t) uint64 {
	dev := sys.Dev(st)
	if dev == l.dev {
		return unionIno(l, st.Ino)
	}
	return spaceIno(f.inos.space(dev, func() uint64 { return filesystemID(dirfd, name, dev) }), st.Ino)
}

// listedIno is inoOf for a name that the directory d lists with inode ino.
func (f *FS) listedIno(d *dirRef, ino uint64) uint64 { return spaceIno(f.spaceOf(d), ino) }

// spaceOf is the space of what a directory holds. One that is on another filesystem than its layer is known as such once it
// was opened.
func (f *FS) spaceOf(d *dirRef) uint16 {
	dev := d.dev.Load()
	if dev == 0 || dev == d.layer.dev {
		return d.layer.index
	}
	return f.inos.space(dev, func() uint64 {
		fd, err := f.use(d)
		if err != nil {
			return dev
		}
		defer f.done(d, fd)
		return filesystemID(fd, ".", dev)
	})
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
