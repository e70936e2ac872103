package fs

import (
	"slices"
	"strings"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"mica/cow"
)

// setxattrIn is struct fuse_setxattr_in of kernels without FUSE_SETXATTR_EXT, and what it begins with on others.
type setxattrIn struct {
	fuse.InHeader
	Size, Flags uint32
}

func (w *worker) setxattr(n *cow.Node) unix.Errno {
	if w.s.opt.NoXattrs {
		return unix.ENOSYS
	}
	in := body[setxattrIn](w)
	if in == nil {
		return unix.EINVAL
	}
	skip, kill := int(unsafe.Sizeof(*in)), false
	if w.s.flags&fuse.CAP_SETXATTR_EXT != 0 {
		long := body[fuse.SetXAttrIn](w)
		if long == nil {
			return unix.EINVAL
		}
		skip, kill = int(unsafe.Sizeof(*long)), long.SetXAttrFlags&fuse.SETXATTR_ACL_KILL_SGID != 0
	}
	name, _ := w.text(skip)
	skip += len(name) + 1
	if len(w.req) < skip+int(in.Size) {
		return unix.EINVAL
	}
	value := w.req[skip : skip+int(in.Size)]
	if w.s.opt.Token != "" {
		if status, ok := w.idSet(n, name, value); ok {
			return status
		}
	}
	return errno(w.s.u.Setxattr(n, name, value, int(in.Flags), kill))
}

// getxattrIn is struct fuse_getxattr_in: a size of 0 asks for the size alone.
type getxattrIn struct {
	fuse.InHeader
	Size uint32
	_    uint32
}

func (w *worker) getxattr(n *cow.Node) unix.Errno {
	if w.s.opt.NoXattrs {
		return unix.ENOSYS
	}
	in := body[getxattrIn](w)
	if in == nil {
		return unix.EINVAL
	}
	name, _ := w.text(int(unsafe.Sizeof(*in)))
	room := min(int(in.Size), len(w.out)-outHeaderSize)
	buf := w.out[outHeaderSize : outHeaderSize+room]
	if w.s.opt.Token != "" {
		if size, status, ok := w.idGet(n, name, buf); ok {
			if status != 0 {
				return status
			}
			return w.sized(in.Size, size)
		}
	}
	size, err := w.s.u.Getxattr(n, name, buf)
	if err != nil {
		return errno(err)
	}
	return w.sized(in.Size, size)
}

func (w *worker) listxattr(n *cow.Node) unix.Errno {
	if w.s.opt.NoXattrs {
		return unix.ENOSYS
	}
	in := body[getxattrIn](w)
	if in == nil {
		return unix.EINVAL
	}
	names, err := w.s.u.Listxattr(n)
	if err != nil {
		return errno(err)
	}
	if w.hdr.Uid != 0 { // xattr(7): trusted attributes are for the privileged
		names = slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, "trusted.") })
	}
	size := 0
	for _, name := range names {
		size += len(name) + 1
	}
	if in.Size != 0 {
		if size > int(in.Size) || size > len(w.out)-outHeaderSize {
			return unix.ERANGE
		}
		b := w.out[outHeaderSize:outHeaderSize]
		for _, name := range names {
			b = append(append(b, name...), 0)
		}
	}
	return w.sized(in.Size, size)
}

// sized replies with a size if the request had room for nothing else, or with
// the size bytes that stand in the reply already.
func (w *worker) sized(room uint32, size int) unix.Errno {
	if room == 0 {
		payload[fuse.GetXAttrOut](w).Size = uint32(size)
		return 0
	}
	w.size = size
	return 0
}

func (w *worker) removexattr(n *cow.Node) unix.Errno {
	if w.s.opt.NoXattrs {
		return unix.ENOSYS
	}
	name, _ := w.text(inHeaderSize)
	return errno(w.s.u.Removexattr(n, name))
}
