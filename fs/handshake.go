package fs

import (
	"fmt"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// protocol is the version of the FUSE protocol that the server speaks.
const (
	protocolMajor = 7
	protocolMinor = 40
	oldestMinor   = 31 // Linux 5.4
)

// wanted are the abilities that the server asks for. Left out with intent:
// ATOMIC_O_TRUNC, which loses truncations when OPEN is not sent; the lock
// flags, since the kernel keeps locks of a local filesystem best itself;
// READDIRPLUS_AUTO, since the server sees better which attributes are wanted
// (see plus.go); AUTO_INVAL_DATA, which drops the page cache after one's own writes; ASYNC_DIO,
// after which the page cache keeps what direct writes have replaced.
const wanted = fuse.CAP_ASYNC_READ | fuse.CAP_BIG_WRITES | fuse.CAP_DONT_MASK |
	fuse.CAP_SPLICE_WRITE | fuse.CAP_SPLICE_MOVE | fuse.CAP_SPLICE_READ |
	fuse.CAP_READDIRPLUS |
	fuse.CAP_NO_OPEN_SUPPORT | fuse.CAP_NO_OPENDIR_SUPPORT | fuse.CAP_PARALLEL_DIROPS |
	fuse.CAP_MAX_PAGES | fuse.CAP_CACHE_SYMLINKS | fuse.CAP_EXPLICIT_INVAL_DATA |
	fuse.CAP_HANDLE_KILLPRIV_V2 | fuse.CAP_SETXATTR_EXT | fuse.CAP_IOCTL_DIR | fuse.CAP_INIT_EXT

// handshake answers INIT, the first request of a mount.
func (w *worker) handshake() error {
	s := w.s
	if _, err := w.next(true); err != nil {
		return err
	}
	const least = inHeaderSize + 16
	if w.hdr.Opcode != opInit || len(w.req) < least {
		return fmt.Errorf("start to serve: the first request is %d, not INIT", w.hdr.Opcode)
	}
	var in fuse.InitIn
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&in)), unsafe.Sizeof(in)), w.req)
	if in.Major != protocolMajor || in.Minor < oldestMinor {
		w.reply(unix.EPROTO)
		return fmt.Errorf("start to serve: the kernel speaks FUSE %d.%d; 7.%d is needed (Linux 5.4)",
			in.Major, in.Minor, oldestMinor)
	}
	offered := uint64(in.Flags)
	if offered&fuse.CAP_INIT_EXT != 0 {
		offered = in.Flags64()
	}
	ask := uint64(wanted)
	if s.opt.Permissions {
		ask |= fuse.CAP_POSIX_ACL
	}
	if s.opt.Writeback {
		ask |= fuse.CAP_WRITEBACK_CACHE
	}
	if s.opt.Passthrough && !s.opt.Writeback && offered&fuse.CAP_PASSTHROUGH != 0 && CanPass() {
		ask = ask&^fuse.CAP_NO_OPEN_SUPPORT | fuse.CAP_PASSTHROUGH
		s.files = &openFiles{of: make(map[uint64]*openFile)}
	}
	s.flags = ask & offered
	s.direct = offered&fuse.CAP_DIRECT_IO_ALLOW_MMAP != 0 && !s.opt.Writeback && s.files == nil
	s.minor = min(in.Minor, protocolMinor)
	out := payload[fuse.InitOut](w)
	out.Major, out.Minor = protocolMajor, protocolMinor
	out.MaxReadAhead = in.MaxReadAhead
	out.Flags, out.Flags2 = uint32(s.flags), uint32(s.flags>>32)
	out.MaxBackground, out.CongestionThreshold = 64, 48
	out.MaxWrite = uint32(s.maxWrite)
	out.MaxPages = uint16((s.maxWrite + 4095) / 4096)
	out.TimeGran = 1
	if s.files != nil {
		out.MaxStackDepth = 1 // files may lie on any filesystem that is not itself made of others
	}
	w.reply(0)
	return nil
}
