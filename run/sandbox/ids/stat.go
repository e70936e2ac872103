package ids

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"

	"mica/internal/idcall"
)

// layout says where the interesting fields of a result are.
type layout struct {
	size     int // of what is read of it
	uid, gid int // 32 bits
	blksize  int // 32 bits count on a little-endian machine
	dev      func(buf []byte) uint64
}

var (
	statLayout = layout{
		size: int(unsafe.Offsetof(unix.Stat_t{}.Blksize)) + 8,
		uid:  int(unsafe.Offsetof(unix.Stat_t{}.Uid)), gid: int(unsafe.Offsetof(unix.Stat_t{}.Gid)), blksize: int(unsafe.Offsetof(unix.Stat_t{}.Blksize)),
		dev: func(buf []byte) uint64 { return binary.NativeEndian.Uint64(buf[unsafe.Offsetof(unix.Stat_t{}.Dev):]) },
	}
	statxLayout = layout{
		size: int(unsafe.Offsetof(unix.Statx_t{}.Dev_minor)) + 4,
		uid:  int(unsafe.Offsetof(unix.Statx_t{}.Uid)), gid: int(unsafe.Offsetof(unix.Statx_t{}.Gid)), blksize: int(unsafe.Offsetof(unix.Statx_t{}.Blksize)),
		dev: func(buf []byte) uint64 {
			return unix.Mkdev(binary.NativeEndian.Uint32(buf[unsafe.Offsetof(unix.Statx_t{}.Dev_major):]),
				binary.NativeEndian.Uint32(buf[unsafe.Offsetof(unix.Statx_t{}.Dev_minor):]))
		},
	}
)

// statSize is room for what is read of any result.
const statSize = int(unsafe.Sizeof(unix.Statx_t{}))

// hidden says whether another owner than the one shown is recorded.
func (l layout) hidden(buf []byte) bool {
	return binary.NativeEndian.Uint32(buf[l.blksize:]) == idcall.HiddenBlksize
}

func (l layout) setBlksize(buf []byte, size uint32) {
	binary.NativeEndian.PutUint32(buf[l.blksize:], size)
}

func (l layout) owner(buf []byte) (uid, gid uint32) {
	return binary.NativeEndian.Uint32(buf[l.uid:]), binary.NativeEndian.Uint32(buf[l.gid:])
}

func (l layout) setOwner(buf []byte, uid, gid uint32) {
	binary.NativeEndian.PutUint32(buf[l.uid:], uid)
	binary.NativeEndian.PutUint32(buf[l.gid:], gid)
}

// stat is a call of the stat family.
type stat struct {
	layout layout
	dirfd  int
	path   uint64 // in memory; 0: the descriptor itself
	flags  int    // AT_*
	buffer uint64
}

// open opens the file that the call is about.
func (c *stat) open(r *resolver, tid int) (int, error) {
	if c.path == 0 {
		return r.openFD(tid, c.dirfd)
	}
	path, e := readString(tid, c.path)
	if e != 0 {
		return -1, e
	}
	flags := 0
	if c.flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
		flags = unix.O_NOFOLLOW
	}
	return r.open(tid, c.dirfd, path, flags)
}

// statCall reads a call from its registers; nil for any other.
func statCall(r *registers) *stat {
	a := r.args()
	switch r.number() {
	case unix.SYS_FSTAT:
		return &stat{layout: statLayout, dirfd: int(int32(a[0])), buffer: a[1]}
	case sysFstatat:
		return &stat{layout: statLayout, dirfd: int(int32(a[0])), path: a[1], flags: int(int32(a[3])), buffer: a[2]}
	case unix.SYS_STATX:
		return &stat{layout: statxLayout, dirfd: int(int32(a[0])), path: a[1], flags: int(int32(a[2])), buffer: a[4]}
	case sysStat:
		return &stat{layout: statLayout, dirfd: unix.AT_FDCWD, path: a[0], buffer: a[1]}
	case sysLstat:
		return &stat{layout: statLayout, dirfd: unix.AT_FDCWD, path: a[0], flags: unix.AT_SYMLINK_NOFOLLOW, buffer: a[1]}
	}
	return nil
}

// tracedFilter is a filter that stops the traced for the calls of the native architecture that a tracer corrects for a sight.
func tracedFilter(sight Sight) []byte {
	ins := func(code uint16, jt, jf uint8, k uint32) unix.SockFilter {
		return unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k}
	}
	const load, jump, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	var calls []uint32
	for _, nr := range []int64{unix.SYS_FSTAT, sysFstatat, unix.SYS_STATX, sysStat, sysLstat, sysAccess, unix.SYS_FACCESSAT, unix.SYS_FACCESSAT2, unix.SYS_SENDMSG} {
		if nr >= 0 {
			calls = append(calls, uint32(nr))
		}
	}
	if sight == Processes {
		calls = append(calls, unix.SYS_READ)
	}
	n := uint8(len(calls))
	prog := []unix.SockFilter{ins(load, 0, 0, 4), ins(jump, 0, n+1, auditArch), ins(load, 0, 0, 0)}
	for i, nr := range calls {
		prog = append(prog, ins(jump, n-uint8(i), 0, nr))
	}
	prog = append(prog, ins(ret, 0, 0, unix.SECCOMP_RET_ALLOW), ins(ret, 0, 0, unix.SECCOMP_RET_TRACE))
	return unsafe.Slice((*byte)(unsafe.Pointer(&prog[0])), len(prog)*8)
}
