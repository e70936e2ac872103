package fs

import (
	"fmt"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// The requests of the protocol, as linux/fuse.h numbers them.
const (
	opLookup        = 1
	opForget        = 2
	opGetattr       = 3
	opSetattr       = 4
	opReadlink      = 5
	opSymlink       = 6
	opMknod         = 8
	opMkdir         = 9
	opUnlink        = 10
	opRmdir         = 11
	opRename        = 12
	opLink          = 13
	opOpen          = 14
	opRead          = 15
	opWrite         = 16
	opStatfs        = 17
	opRelease       = 18
	opFsync         = 20
	opSetxattr      = 21
	opGetxattr      = 22
	opListxattr     = 23
	opRemovexattr   = 24
	opFlush         = 25
	opInit          = 26
	opOpendir       = 27
	opReaddir       = 28
	opReleasedir    = 29
	opFsyncdir      = 30
	opAccess        = 34
	opCreate        = 35
	opInterrupt     = 36
	opDestroy       = 38
	opIoctl         = 39
	opBatchForget   = 42
	opFallocate     = 43
	opReaddirplus   = 44
	opRename2       = 45
	opLseek         = 46
	opCopyFileRange = 47
	opSyncfs        = 50
	opTmpfile       = 51
	opStatx         = 52

	opcodes = 64
)

// opNames are the names under which requests are counted and traced.
var opNames = [opcodes]string{
	opLookup: "LOOKUP", opForget: "FORGET", opGetattr: "GETATTR", opSetattr: "SETATTR",
	opReadlink: "READLINK", opSymlink: "SYMLINK", opMknod: "MKNOD", opMkdir: "MKDIR",
	opUnlink: "UNLINK", opRmdir: "RMDIR", opRename: "RENAME", opLink: "LINK", opOpen: "OPEN",
	opRead: "READ", opWrite: "WRITE", opStatfs: "STATFS", opRelease: "RELEASE", opFsync: "FSYNC",
	opSetxattr: "SETXATTR", opGetxattr: "GETXATTR", opListxattr: "LISTXATTR",
	opRemovexattr: "REMOVEXATTR", opFlush: "FLUSH", opInit: "INIT", opOpendir: "OPENDIR",
	opReaddir: "READDIR", opReleasedir: "RELEASEDIR", opFsyncdir: "FSYNCDIR", opAccess: "ACCESS",
	opCreate: "CREATE", opInterrupt: "INTERRUPT", opDestroy: "DESTROY", opIoctl: "IOCTL",
	opBatchForget: "BATCH_FORGET", opFallocate: "FALLOCATE", opReaddirplus: "READDIRPLUS",
	opRename2: "RENAME2", opLseek: "LSEEK", opCopyFileRange: "COPY_FILE_RANGE",
	opSyncfs: "SYNCFS", opTmpfile: "TMPFILE", opStatx: "STATX",
}

// dispatch carries out one request. What it does not know is ENOSYS, which the
// kernel remembers.
func (w *worker) dispatch() unix.Errno {
	switch w.hdr.Opcode {
	case opForget:
		return w.forget()
	case opBatchForget:
		return w.batchForget()
	case opOpendir, opFlush:
		return unix.ENOSYS
	case opRelease:
		return w.closed()
	case opInterrupt, opDestroy, opReleasedir:
		return 0
	case opStatfs:
		return w.statfs()
	case opSyncfs:
		return errno(w.s.u.Sync())
	}
	if w.hdr.Opcode == opOpen && w.s.files == nil {
		return unix.ENOSYS
	}
	n := w.s.ids.get(w.hdr.NodeId)
	if n == nil {
		return unix.ESTALE
	}
	switch w.hdr.Opcode {
	case opLookup:
		return w.lookup(n)
	case opGetattr:
		return w.getattr(n)
	case opStatx:
		return w.statx(n)
	case opSetattr:
		return w.setattr(n)
	case opReadlink:
		return w.readlink(n)
	case opSymlink:
		return w.symlink(n)
	case opMknod:
		return w.mknod(n)
	case opMkdir:
		return w.mkdir(n)
	case opCreate:
		return w.create(n)
	case opTmpfile:
		return w.tmpfile(n)
	case opUnlink:
		name, _ := w.text(inHeaderSize)
		return errno(w.s.u.Unlink(n, name))
	case opRmdir:
		name, _ := w.text(inHeaderSize)
		return errno(w.s.u.Rmdir(n, name))
	case opRename, opRename2:
		return w.rename(n)
	case opLink:
		return w.link(n)
	case opOpen:
		return w.open(n)
	case opRead:
		return w.readData(n)
	case opWrite:
		return w.writeData(n)
	case opFsync, opFsyncdir:
		return w.fsync(n)
	case opFallocate:
		return w.fallocate(n)
	case opLseek:
		return w.lseek(n)
	case opCopyFileRange:
		return w.copyFileRange(n)
	case opReaddir:
		return w.readdir(n)
	case opReaddirplus:
		return w.readdirPlus(n)
	case opSetxattr:
		return w.setxattr(n)
	case opGetxattr:
		return w.getxattr(n)
	case opListxattr:
		return w.listxattr(n)
	case opRemovexattr:
		return w.removexattr(n)
	case opIoctl:
		return w.ioctl(n)
	}
	return unix.ENOSYS
}

// errno is the boundary behind which there are error numbers only.
func errno(err error) unix.Errno {
	if err == nil {
		return 0
	}
	return sys.Errno(err)
}

// trace writes a line about a request and its outcome.
func (w *worker) trace(status unix.Errno) {
	name := "?"
	if w.hdr.Opcode < opcodes && opNames[w.hdr.Opcode] != "" {
		name = opNames[w.hdr.Opcode]
	}
	result := "ok"
	if status != 0 {
		result = unix.ErrnoName(status)
	}
	fmt.Fprintf(w.s.opt.Debug, "%d %s node=%d pid=%d uid=%d in=%d out=%d %s\n",
		w.hdr.Unique, name, w.hdr.NodeId, w.hdr.Pid, w.hdr.Uid, len(w.req), w.size, result)
}
