package fs

import (
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"mica/cow"
)

func (w *worker) readData(n *cow.Node) unix.Errno {
	in := body[fuse.ReadIn](w)
	if in == nil {
		return unix.EINVAL
	}
	w.s.ids.markRead(w.hdr.NodeId)
	size := min(int(in.Size), len(w.out)-outHeaderSize)
	buf := w.out[outHeaderSize : outHeaderSize+size]
	var err error
	if in.Flags&unix.O_NOATIME == 0 {
		w.size, err = w.s.u.Read(n, buf, int64(in.Offset))
	} else {
		w.size, err = w.s.u.ReadQuietly(n, buf, int64(in.Offset))
	}
	return errno(err)
}

func (w *worker) writeData(n *cow.Node) unix.Errno {
	in := body[fuse.WriteIn](w)
	if in == nil || len(w.req) < int(unsafe.Sizeof(*in))+int(in.Size) {
		return unix.EINVAL
	}
	data := w.req[unsafe.Sizeof(*in):][:in.Size]
	var err error
	if in.WriteFlags&fuse.WRITE_CACHE != 0 && w.s.flags&fuse.CAP_WRITEBACK_CACHE == 0 {
		err = w.s.u.WritePages(n, data, int64(in.Offset))
	} else {
		kill := in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0
		err = w.s.u.Write(n, data, int64(in.Offset), kill)
	}
	if err != nil {
		return errno(err)
	}
	if in.Fh == directHandle && w.s.ids.readSince(w.hdr.NodeId) {
		if err := w.dropPages(in); err != nil {
			return errno(err)
		}
	}
	payload[fuse.WriteOut](w).Size = in.Size
	return 0
}

// fsyncDataOnly is FUSE_FSYNC_FDATASYNC.
const fsyncDataOnly = 1

func (w *worker) fsync(n *cow.Node) unix.Errno {
	in := body[fuse.FsyncIn](w)
	if in == nil {
		return unix.EINVAL
	}
	if w.hdr.Opcode == opFsyncdir {
		return errno(w.s.u.FsyncDir(n))
	}
	return errno(w.s.u.Fsync(n, in.FsyncFlags&fsyncDataOnly != 0))
}

func (w *worker) fallocate(n *cow.Node) unix.Errno {
	in := body[fuse.FallocateIn](w)
	if in == nil {
		return unix.EINVAL
	}
	// The request does not say whether the caller may keep set-id bits; like
	// a write by anybody but root, it clears them.
	kill := w.hdr.Uid != 0
	err := w.s.u.Fallocate(n, in.Mode, int64(in.Offset), int64(in.Length), kill)
	if err != nil {
		_ = w.s.notifyAttr(n) // a part may be there, as on a disk that is full now; the kernel expects a change from success alone
	}
	return errno(err)
}

func (w *worker) lseek(n *cow.Node) unix.Errno {
	in := body[fuse.LseekIn](w)
	if in == nil {
		return unix.EINVAL
	}
	pos, err := w.s.u.Seek(n, int64(in.Offset), int(in.Whence))
	if err != nil {
		return errno(err)
	}
	payload[fuse.LseekOut](w).Offset = uint64(pos)
	return 0
}

func (w *worker) copyFileRange(src *cow.Node) unix.Errno {
	in := body[fuse.CopyFileRangeIn](w)
	if in == nil {
		return unix.EINVAL
	}
	dst := w.s.ids.get(in.NodeIdOut)
	if dst == nil {
		return unix.ESTALE
	}
	n, err := w.s.u.CopyRange(src, int64(in.OffIn), dst, int64(in.OffOut), int64(in.Len), w.hdr.Uid != 0)
	if err != nil {
		return errno(err)
	}
	payload[fuse.WriteOut](w).Size = uint32(n)
	return 0
}

// ioctl answers the one request that makes sense for an object wherever it
// lies: its inode flags.
func (w *worker) ioctl(n *cow.Node) unix.Errno {
	in := body[fuse.IoctlIn](w)
	if in == nil {
		return unix.EINVAL
	}
	if in.Cmd != unix.FS_IOC_GETFLAGS || in.OutSize < 4 {
		return unix.ENOTTY
	}
	flags, err := w.s.u.InodeFlags(n)
	if err != nil {
		return errno(err)
	}
	type reply struct {
		fuse.IoctlOut
		flags uint32
	}
	payload[reply](w).flags = flags
	return 0
}
