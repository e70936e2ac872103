package cow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// A block map is a file in work/maps:
//
//	0    magic, format version
//	8    log2 of the block size
//	16   number of blocks
//	24   boot id that the live half belongs to (32 bytes of text)
//	56   lowerEnd, live
//	64   lowerEnd, synced
//	128  live bits, then synced bits, each rounded up to 8 bytes
//
// Numbers are 64 bits, little endian. The file is mapped shared, so that what
// is set there survives the process at no cost.
const (
	mapMagic  = 0x31306b6c62696d // "miblk01"
	mapHeader = 128
)

// blockMap is an open map. Its owner's lock guards it.
type blockMap struct {
	id    string
	shift uint
	n     int64 // blocks
	mem   []byte
	live  []uint64
	done  []uint64 // the synced half
	count int64    // bits set in live

	reborn bool // the live half was that of another boot
	frozen bool // and still is, since the map is open for reading alone
}

func mapSize(blocks int64) (words int64, size int64) {
	words = (blocks + 63) / 64
	return words, mapHeader + 2*8*words
}

// createMap makes a map without a bit set.
func (f *FS) createMap(size, lowerEnd int64) (*blockMap, error) {
	shift := blockShift(size)
	blocks := (size + 1<<shift - 1) >> shift
	id := strconv.FormatUint(uint64(time.Now().UnixNano()), 36) + "-" + f.work.stageName()
	fd, err := sys.Open(f.work.maps, id, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	_, bytes := mapSize(blocks)
	// Blocks are allocated here and now: a store to a page that finds the
	// disk full later would kill the process.
	if err = unix.Fallocate(fd, 0, 0, bytes); err == unix.EOPNOTSUPP {
		err = sys.PwriteFull(fd, make([]byte, bytes), 0)
	}
	var head [mapHeader]byte
	binary.LittleEndian.PutUint64(head[0:], mapMagic)
	binary.LittleEndian.PutUint64(head[8:], uint64(shift))
	binary.LittleEndian.PutUint64(head[16:], uint64(blocks))
	copy(head[24:56], f.work.boot)
	binary.LittleEndian.PutUint64(head[56:], uint64(lowerEnd))
	binary.LittleEndian.PutUint64(head[64:], uint64(lowerEnd))
	if err == nil {
		err = sys.PwriteFull(fd, head[:], 0)
	}
	var m *blockMap
	if err == nil {
		m, err = attachMap(fd, id, f.work.boot, true)
	}
	sys.Close(fd)
	if err != nil {
		_ = unix.Unlinkat(f.work.maps, id, 0)
		return nil, err
	}
	return m, nil
}

// openMap opens the map of a record.
func (f *FS) openMap(id string) (*blockMap, error) {
	flags, boot := unix.O_RDWR, f.work.boot
	dir := f.work.maps
	if f.cfg.Observe {
		flags = unix.O_RDONLY
		var err error
		if dir, err = sys.OpenDir(f.work.fd, mapsName); err != nil {
			return nil, err
		}
		defer sys.Close(dir)
	}
	fd, err := sys.Open(dir, id, flags, 0)
	if err == unix.ENOENT {
		return nil, errLostMap
	}
	if err != nil {
		return nil, err
	}
	defer sys.Close(fd)
	return attachMap(fd, id, boot, !f.cfg.Observe)
}

// errLostMap says that a map is not whole. A power loss leaves that of one that
// was never synced.
var errLostMap = errors.New("block map is missing or cut off")

// attachMap checks a map file and maps it into memory; fd is not kept. If its
// live half comes from another boot, the synced half takes its place.
func attachMap(fd int, id, boot string, writable bool) (*blockMap, error) {
	var head [mapHeader]byte
	if _, err := sys.Pread(fd, head[:], 0); err == io.EOF {
		return nil, errLostMap
	} else if err != nil {
		return nil, fmt.Errorf("read block map %s: %w", id, err)
	}
	if head == [mapHeader]byte{} {
		return nil, errLostMap
	}
	shift := binary.LittleEndian.Uint64(head[8:])
	blocks := binary.LittleEndian.Uint64(head[16:])
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint64(head[0:]) != mapMagic || shift < 9 || shift > 40 || blocks > 1<<40 {
		return nil, fmt.Errorf("read block map %s: not a block map: %w", id, unix.EIO)
	}
	words, size := mapSize(int64(blocks))
	if st.Size < size {
		return nil, errLostMap
	}
	prot := unix.PROT_READ
	if writable {
		prot |= unix.PROT_WRITE
	}
	mem, err := unix.Mmap(fd, 0, int(size), prot, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	m := &blockMap{id: id, shift: uint(shift), n: int64(blocks), mem: mem}
	if words > 0 {
		m.live = unsafe.Slice((*uint64)(unsafe.Pointer(&mem[mapHeader])), words)
		m.done = unsafe.Slice((*uint64)(unsafe.Pointer(&mem[mapHeader+8*words])), words)
	}
	if string(mem[24:56]) != boot {
		m.reborn = true
		if writable {
			copy(m.live, m.done)
			copy(mem[56:64], mem[64:72])
			copy(mem[24:56], boot)
		} else {
			m.live, m.frozen = m.done, true
		}
	}
	for _, w := range m.live {
		m.count += int64(bits.OnesCount64(w))
	}
	return m, nil
}

// lowerEnd is where the lower content ends.
func (m *blockMap) lowerEnd() int64 {
	if m.frozen {
		return m.syncedEnd()
	}
	return int64(binary.LittleEndian.Uint64(m.mem[56:]))
}

// syncedEnd is lowerEnd as a crash of the machine now would leave it.
func (m *blockMap) syncedEnd() int64 { return int64(binary.LittleEndian.Uint64(m.mem[64:])) }

func (m *blockMap) setLowerEnd(v int64) { binary.LittleEndian.PutUint64(m.mem[56:], uint64(v)) }

// has tells whether block i is in the upper.
func (m *blockMap) has(i int64) bool {
	return i >= m.n || m.live[i>>6]&(1<<(i&63)) != 0
}

// set notes that blocks [from, to) are in the upper.
func (m *blockMap) set(from, to int64) {
	for i := from; i < min(to, m.n); i++ {
		if !m.has(i) {
			m.live[i>>6] |= 1 << (i & 63)
			m.count++
		}
	}
}

// run gives the end of the run of blocks from i that are all in the upper or
// all not, at most limit.
func (m *blockMap) run(i, limit int64) (end int64, inUpper bool) {
	inUpper = m.has(i)
	for end = i + 1; end < limit && m.has(end) == inUpper; end++ {
	}
	return end, inUpper
}

// synced tells whether block i is in the upper for ever.
func (m *blockMap) synced(i int64) bool { return m.done[i>>6]&(1<<(i&63)) != 0 }

// snapshot copies the live half before a sync of the data.
func (m *blockMap) snapshot() ([]uint64, int64) {
	return append([]uint64(nil), m.live...), m.lowerEnd()
}

// commit makes a snapshot whose data is on disk the synced half, and syncs the
// map.
func (m *blockMap) commit(on machine, live []uint64, lowerEnd int64) error {
	for i, w := range live {
		m.done[i] |= w
	}
	binary.LittleEndian.PutUint64(m.mem[64:], uint64(lowerEnd))
	return on.msync(m.mem)
}

// close unmaps the file.
func (m *blockMap) close() {
	_ = unix.Munmap(m.mem)
	m.mem, m.live, m.done = nil, nil, nil
}
