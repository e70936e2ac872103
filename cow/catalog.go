package cow

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"runtime"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
	"mica/whiteout"
)

// A catalog is a file with the listings of all directories of a layer that nobody changes, made once, when the layer is
// unpacked. To list a directory from it takes a look into memory, where the disk takes five system calls; in a stack of many
// layers that is most of what a first look into a directory costs. It only repeats what the layer's
// directories say: where there is none, or it does not fit, those are read.
//
// The file is little-endian. Its head says which tree it is of; blocks follow, one for each directory, those of
// subdirectories before that of their parent:
//
//	head     magic[8], inode and birth time of the tree's root[8+8+4], place of the root's block[4], size of the file[8],
//	         checksum of these[4]
//	block    checksum of the rest[4], its size[4], flags[4], number of subdirectories[4], checksum of the directory's path[4],
//	         for each subdirectory, by name: place of its name in the rest[4], place of its block in the file[4];
//	         then the names as the disk lists them
//	name     kind[1], inode (uvarint), length[1], the name
type catalog struct {
	data []byte // mapped
}

const (
	catalogMagic = "mica cat"
	catalogHead  = 8 + 8 + 8 + 4 + 4 + 8 + 4
	headRoot     = 8 + 8 + 8 + 4
	headSize     = headRoot + 4
	headSum      = headSize + 8
	blockHead    = 5 * 4
	blockRest    = 2 * 4 // where what the checksum covers begins
	blockOpaque  = 1     // a flag: the directory hides those of layers below

	// Kinds of names are DT_ values, or with kindDeleted what the layer deletes, plus a whiteout.Style.
	kindDeleted = 0x80

	// What a dirRef knows of its block besides its place.
	blockUnknown = 0
	blockNone    = 1
)

var checksums = crc32.MakeTable(crc32.Castagnoli)

// openCatalog maps the catalog at path, nil if there is none that is of the tree whose root has the status st: a copy of a
// layer has other inodes than the layer.
func openCatalog(path string, st *unix.Statx_t) *catalog {
	fd, err := sys.Open(unix.AT_FDCWD, path, unix.O_RDONLY, 0)
	if err != nil {
		return nil
	}
	defer sys.Close(fd)
	size, fits := catalogFits(fd, st)
	if !fits {
		return nil
	}
	data, err := unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil
	}
	return &catalog{data}
}

// catalogFits tells whether a file is a catalog of the tree whose root has the status st, and its size.
func catalogFits(fd int, st *unix.Statx_t) (size int, fits bool) {
	var file unix.Stat_t
	if unix.Fstat(fd, &file) != nil || file.Mode&unix.S_IFMT != unix.S_IFREG || file.Size > 1<<32-1 {
		return 0, false
	}
	var head [catalogHead]byte
	if n, err := sys.Pread(fd, head[:], 0); err != nil || n < len(head) {
		return 0, false
	}
	want, known := catalogHeadOf(st)
	return int(file.Size), known && bytes.HasPrefix(head[:], want) &&
		binary.LittleEndian.Uint64(head[headSize:]) == uint64(file.Size) &&
		binary.LittleEndian.Uint32(head[headSum:]) == crc32.Checksum(head[:headSum], checksums)
}

// catalogHeadOf is the head of the catalog of a tree up to the place of the root's block. known is false where the disk
// does not tell enough to know the tree again.
func catalogHeadOf(st *unix.Statx_t) (head []byte, known bool) {
	head = append(head, catalogMagic...)
	head = binary.LittleEndian.AppendUint64(head, st.Ino)
	head = binary.LittleEndian.AppendUint64(head, uint64(st.Btime.Sec))
	head = binary.LittleEndian.AppendUint32(head, st.Btime.Nsec)
	return head, st.Mask&unix.STATX_BTIME != 0
}

func (c *catalog) close() { _ = unix.Munmap(c.data) }

// guard does what reads the mapped file, and is false if the disk could not give it, or gave what makes no sense.
func (c *catalog) guard(do func()) (ok bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if _, expected := r.(runtime.Error); !expected {
				panic(r)
			}
			ok = false
		}
	}()
	do()
	return true
}

// root is the place of the root's block.
func (c *catalog) root() uint32 {
	at := uint32(blockNone)
	c.guard(func() { at = binary.LittleEndian.Uint32(c.data[headRoot:]) })
	return at
}

// listed is the content of a block.
type listed struct {
	opaque bool
	names  []byte // all of them whole
}

// read copies the block at a place into buf, if it is whole and that of the directory with this path. Somebody may change the file
// meanwhile: only what was copied is looked at.
func (c *catalog) read(at, path uint32, buf []byte) (_ []byte, l listed, ok bool) {
	if !c.guard(func() {
		b := c.data[at:]
		buf = append(buf[:0], b[:blockRest+binary.LittleEndian.Uint32(b[4:])]...)
	}) || len(buf) < blockHead || at < catalogHead {
		return buf, l, false
	}
	subs := uint64(binary.LittleEndian.Uint32(buf[12:]))
	if crc32.Checksum(buf[blockRest:], checksums) != binary.LittleEndian.Uint32(buf) ||
		binary.LittleEndian.Uint32(buf[16:]) != path || blockHead+8*subs > uint64(len(buf)) {
		return buf, l, false
	}
	l = listed{binary.LittleEndian.Uint32(buf[8:])&blockOpaque != 0, buf[blockHead+8*subs:]}
	for rest := l.names; len(rest) > 0; {
		if _, _, _, rest = cutName(rest); rest == nil {
			return buf, l, false
		}
	}
	return buf, l, true
}

// sub is where the block of a subdirectory is, by the block of its parent, which nobody has checked.
func (c *catalog) sub(parent uint32, name string) uint32 {
	found := uint32(blockNone)
	c.guard(func() {
		b := c.data[parent:]
		b = b[blockRest : blockRest+binary.LittleEndian.Uint32(b[4:])]
		table := b[blockHead-blockRest:]
		for low, high := 0, int(binary.LittleEndian.Uint32(b[4:])); low < high; {
			mid := (low + high) / 2
			at := binary.LittleEndian.Uint32(table[8*mid:])
			_, _, other, _ := cutName(b[at:])
			switch order := bytes.Compare(other, []byte(name)); {
			case order < 0:
				low = mid + 1
			case order > 0:
				high = mid
			default:
				found = binary.LittleEndian.Uint32(table[8*mid+4:])
				return
			}
		}
	})
	return found
}

// cutName reads a name from the begin of b; rest is nil if there is no whole one.
func cutName(b []byte) (kind uint8, ino uint64, name, rest []byte) {
	if len(b) < 2 {
		return 0, 0, nil, nil
	}
	ino, n := binary.Uvarint(b[1:])
	if n <= 0 || len(b) < 1+n+1 {
		return 0, 0, nil, nil
	}
	end := 1 + n + 1 + int(b[1+n])
	if len(b) < end {
		return 0, 0, nil, nil
	}
	return b[0], ino, b[1+n+1 : end], b[end:]
}

// blocks are buffers for one block each.
var blocks = sync.Pool{New: func() any { return new([]byte) }}

// list tells sink what the directory with this path says; ok is false, and nothing was told, if its block is not whole.
func (c *catalog) list(at, path uint32, arena *nameArena, sink listingSink) (opaque, ok bool) {
	buf := blocks.Get().(*[]byte)
	defer blocks.Put(buf)
	var l listed
	if *buf, l, ok = c.read(at, path, *buf); !ok {
		return false, false
	}
	for len(l.names) > 0 {
		kind, ino, raw, rest := cutName(l.names)
		l.names = rest
		if name := arena.keep(raw); kind&kindDeleted != 0 {
			sink.deletes(name, whiteout.Style(kind&^kindDeleted))
		} else {
			sink.has(name, kind, ino)
		}
	}
	return l.opaque, true
}

// pathSum is the checksum of the path of a subdirectory.
func pathSum(parent uint32, name string) uint32 {
	return crc32.Update(crc32.Update(parent, checksums, slash), checksums, []byte(name))
}

var slash = []byte{'/'}

// lazyCatalog is the catalog of a layer, opened when a directory is first listed: a mount has no use for it.
type lazyCatalog struct {
	once sync.Once
	path string // "": there is none
	root unix.Statx_t
	c    *catalog
}

func (l *lazyCatalog) get() *catalog {
	if l.path == "" {
		return nil
	}
	l.once.Do(func() { l.c = openCatalog(l.path, &l.root) })
	return l.c
}

// close ends the use of the catalog for good.
func (l *lazyCatalog) close() {
	l.once.Do(func() {})
	if l.c != nil {
		l.c.close()
	}
}

// catalogued gives a directory's layer's catalog, the place of the directory's block in it and the checksum of its path, nil if
// it has none. Needs FS.tree.
func (d *dirRef) catalogued() (c *catalog, at, path uint32) {
	if at = d.block.Load(); at == blockNone {
		return nil, 0, 0
	}
	if c = d.layer.catalog.get(); c == nil {
		return nil, 0, 0
	}
	if d.parent == nil {
		return c, c.root(), 0
	}
	up, above, path := d.parent.catalogued()
	if up == nil {
		return nil, 0, 0
	}
	if at == blockUnknown {
		at = c.sub(above, d.name)
		d.block.Store(at)
	}
	if at == blockNone {
		return nil, 0, 0
	}
	return c, at, pathSum(path, d.name)
}
