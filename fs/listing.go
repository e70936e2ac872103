package fs

import (
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"mica/cow"
)

// direntHead is struct fuse_dirent without its name.
type direntHead struct {
	Ino, Off uint64
	NameLen  uint32
	Type     uint32
}

const (
	direntSize   = int(unsafe.Sizeof(direntHead{}))
	entryOutSize = int(unsafe.Sizeof(fuse.EntryOut{}))
)

// listBuffer gives the part of the reply that the kernel has room for, and
// the place to list from.
func (w *worker) listBuffer() (buf []byte, cookie uint64, status unix.Errno) {
	in := body[fuse.ReadIn](w)
	if in == nil {
		return nil, 0, unix.EINVAL
	}
	size := min(int(in.Size), len(w.out)-outHeaderSize)
	return w.out[outHeaderSize : outHeaderSize+size], in.Offset, 0
}

// putDirent appends an entry to buf at w.size, padded to 8 bytes.
func (w *worker) putDirent(buf []byte, e cow.DirEntry) bool {
	size := (direntSize + len(e.Name) + 7) &^ 7
	if w.size+size > len(buf) {
		return false
	}
	head := (*direntHead)(unsafe.Pointer(&buf[w.size]))
	*head = direntHead{Ino: e.Ino, Off: e.Cookie, NameLen: uint32(len(e.Name)), Type: uint32(e.Type)}
	end := w.size + direntSize + copy(buf[w.size+direntSize:], e.Name)
	clear(buf[end : w.size+size])
	w.size += size
	return true
}

func (w *worker) readdir(n *cow.Node) unix.Errno {
	buf, cookie, status := w.listBuffer()
	if status != 0 {
		return status
	}
	return errno(w.s.u.ReadDir(n, cookie, func(e cow.DirEntry) bool { return w.putDirent(buf, e) }))
}

// readdirPlus lists entries together with what a lookup of each would answer,
// or of each that the client is thought to look at.
func (w *worker) readdirPlus(n *cow.Node) unix.Errno {
	buf, cookie, status := w.listBuffer()
	if status != 0 {
		return status
	}
	var wants func(*cow.Node) bool
	if w.bare(cookie == 0) {
		wants = w.s.ids.isOutdated
	}
	return errno(w.s.u.ReadDirPlus(n, cookie, wants, func(e cow.DirEntry, child *cow.Node, a *cow.Attr) bool {
		start := w.size
		if start+entryOutSize > len(buf) {
			return false
		}
		w.size += entryOutSize
		if !w.putDirent(buf, e) {
			w.size = start
			return false
		}
		out := (*fuse.EntryOut)(unsafe.Pointer(&buf[start]))
		*out = fuse.EntryOut{}
		if child != nil {
			w.s.setEntry(out, child, a)
			if !child.IsDir() {
				w.s.ids.updated(out.NodeId)
			}
		}
		return true
	}))
}

// bare tells whether a reply that lists a directory is to have only the
// attributes of directories, and those that the kernel knows to be out of date.
func (w *worker) bare(begin bool) bool {
	if begin {
		first, rest, which := w.s.listers.begin(w.hdr.Pid)
		w.s.ids.listed(w.hdr.NodeId, !rest, which)
		return !first
	}
	bare, _ := w.s.ids.bare(w.hdr.NodeId)
	return bare
}
