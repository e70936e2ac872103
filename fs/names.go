package fs

import (
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"mica/cow"
)

func (w *worker) lookup(dir *cow.Node) unix.Errno {
	name, _ := w.text(inHeaderSize)
	if w.greets(name) {
		return 0
	}
	var a cow.Attr
	n, err := w.s.u.Lookup(dir, name, &a)
	if err == unix.ENOENT {
		// Id 0 makes the kernel remember that the name is absent.
		out := payload[fuse.EntryOut](w)
		out.EntryValid, out.EntryValidNsec = w.s.valid()
		return 0
	}
	if err != nil {
		return errno(err)
	}
	if a.Mode&unix.S_IFMT != unix.S_IFDIR {
		if bare, which := w.s.ids.bare(w.hdr.NodeId); bare {
			w.s.listers.missed(which)
		}
	}
	return w.entry(n, &a)
}

// forgetIn and forgetOne are struct fuse_forget_in and fuse_forget_one.
type forgetIn struct {
	fuse.InHeader
	Nlookup uint64
}

type batchForgetIn struct {
	fuse.InHeader
	Count uint32
	_     uint32
}

type forgetOne struct {
	NodeID  uint64
	Nlookup uint64
}

func (w *worker) forget() unix.Errno {
	if in := body[forgetIn](w); in != nil {
		w.s.forgetID(in.NodeId, in.Nlookup)
	}
	return 0
}

func (w *worker) batchForget() unix.Errno {
	in := body[batchForgetIn](w)
	if in == nil {
		return 0
	}
	rest := w.req[unsafe.Sizeof(*in):]
	count := min(int(in.Count), len(rest)/int(unsafe.Sizeof(forgetOne{})))
	if count == 0 {
		return 0
	}
	for _, one := range unsafe.Slice((*forgetOne)(unsafe.Pointer(&rest[0])), count) {
		w.s.forgetID(one.NodeID, one.Nlookup)
	}
	return 0
}

func (s *Server) forgetID(id, count uint64) {
	if n := s.ids.take(id, count); n != nil {
		s.u.Forget(n, count)
	}
}

// caller is who asks, as the union is to keep it.
func (w *worker) caller(umask uint32) cow.Caller {
	uid, gid := w.hdr.Uid, w.hdr.Gid
	if w.s.opt.Creds != nil {
		if u, g, ok := w.s.opt.Creds(w.hdr.Pid); ok {
			return cow.Caller{UID: u, GID: g, Umask: umask}
		}
	}
	return cow.Caller{UID: mapID(w.s.opt.StoreUID, uid), GID: mapID(w.s.opt.StoreGID, gid), Umask: umask}
}

// make creates an object and replies with it.
func (w *worker) make(dir *cow.Node, name string, umask uint32, o cow.NewObject) unix.Errno {
	var a cow.Attr
	n, err := w.s.u.Create(w.caller(umask), dir, name, o, &a)
	if err != nil {
		return errno(err)
	}
	return w.entry(n, &a)
}

func (w *worker) mknod(dir *cow.Node) unix.Errno {
	in := body[fuse.MknodIn](w)
	if in == nil {
		return unix.EINVAL
	}
	name, _ := w.text(int(unsafe.Sizeof(*in)))
	mode := in.Mode
	if mode&unix.S_IFMT == 0 {
		mode |= unix.S_IFREG
	}
	return w.make(dir, name, in.Umask, cow.NewObject{Mode: mode, Rdev: in.Rdev})
}

func (w *worker) mkdir(dir *cow.Node) unix.Errno {
	in := body[fuse.MkdirIn](w)
	if in == nil {
		return unix.EINVAL
	}
	name, _ := w.text(int(unsafe.Sizeof(*in)))
	return w.make(dir, name, in.Umask, cow.NewObject{Mode: unix.S_IFDIR | in.Mode&0o7777})
}

func (w *worker) symlink(dir *cow.Node) unix.Errno {
	name, target := w.text(inHeaderSize)
	return w.make(dir, name, 0, cow.NewObject{Mode: unix.S_IFLNK | 0o777, Target: target})
}

// create makes a regular file and opens it in one request. What is open is
// found by its node; the handle says only how it is written to (see direct.go).
func (w *worker) create(dir *cow.Node) unix.Errno {
	in := body[fuse.CreateIn](w)
	if in == nil {
		return unix.EINVAL
	}
	name, _ := w.text(int(unsafe.Sizeof(*in)))
	var a cow.Attr
	n, err := w.s.u.Create(w.caller(in.Umask), dir, name, cow.NewObject{Mode: unix.S_IFREG | in.Mode&0o7777}, &a)
	existed := err == unix.EEXIST
	if err == unix.EEXIST && in.Flags&unix.O_EXCL == 0 {
		// Somebody was faster than the kernel's lookup.
		if n, err = w.s.u.Lookup(dir, name, &a); err == nil && in.Flags&unix.O_TRUNC != 0 {
			zero := int64(0)
			err = w.s.u.Setattr(n, cow.SetAttr{Size: &zero}, &a)
			if err != nil {
				w.s.u.Forget(n, 1)
			}
		}
	}
	if err != nil {
		return errno(err)
	}
	return w.opened(n, &a, in.Flags, existed)
}

func (w *worker) tmpfile(dir *cow.Node) unix.Errno {
	in := body[fuse.CreateIn](w)
	if in == nil {
		return unix.EINVAL
	}
	var a cow.Attr
	n, err := w.s.u.Tmpfile(w.caller(in.Umask), dir, in.Mode, &a)
	if err != nil {
		return errno(err)
	}
	return w.opened(n, &a, in.Flags, false)
}

// opened replies with a node that is open; known says that the kernel may have
// had it before.
func (w *worker) opened(n *cow.Node, a *cow.Attr, flags uint32, known bool) unix.Errno {
	out := payload[fuse.CreateOut](w)
	w.s.setEntry(&out.EntryOut, n, a)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	if w.s.files != nil {
		status := w.s.opening(n, out.NodeId, flags, &out.OpenOut)
		out.AttrValid, out.AttrValidNsec = w.s.attrValid(out.NodeId)
		return status
	}
	if flags&unix.O_ACCMODE == unix.O_WRONLY && w.s.direct {
		out.OpenFlags, out.Fh = fuse.FOPEN_DIRECT_IO, directHandle
		w.s.ids.markDirect(out.NodeId, known)
	}
	return 0
}

func (w *worker) link(dir *cow.Node) unix.Errno {
	in := body[fuse.LinkIn](w)
	if in == nil {
		return unix.EINVAL
	}
	n := w.s.ids.get(in.Oldnodeid)
	if n == nil {
		return unix.ESTALE
	}
	name, _ := w.text(int(unsafe.Sizeof(*in)))
	var a cow.Attr
	if err := w.s.u.Link(n, dir, name, &a); err != nil {
		return errno(err)
	}
	return w.entry(n, &a)
}

func (w *worker) rename(dir *cow.Node) unix.Errno {
	const oldSize = inHeaderSize + 8
	if len(w.req) < oldSize {
		return unix.EINVAL
	}
	newID := *(*uint64)(unsafe.Pointer(&w.req[inHeaderSize]))
	skip, flags := oldSize, uint32(0)
	if w.hdr.Opcode == opRename2 {
		in := body[fuse.RenameIn](w)
		if in == nil {
			return unix.EINVAL
		}
		skip, flags = int(unsafe.Sizeof(*in)), in.Flags
	}
	to := w.s.ids.get(newID)
	if to == nil {
		return unix.ESTALE
	}
	oldName, newName := w.text(skip)
	var c cow.Caller
	if flags&unix.RENAME_WHITEOUT != 0 {
		c = w.caller(0)
	}
	return errno(w.s.u.Rename(c, dir, oldName, to, newName, flags))
}

func (w *worker) readlink(n *cow.Node) unix.Errno {
	target, err := w.s.u.Readlink(n)
	if err != nil {
		return errno(err)
	}
	w.size = copy(w.out[outHeaderSize:], target)
	return 0
}
