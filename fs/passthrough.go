package fs

import (
	"os"
	"strings"
	"sync"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"mica/cow"
)

// With passthrough the kernel reads and writes a file on disk itself, without
// asking the server. For that it sends OPEN and RELEASE for every file, which
// it otherwise does not, so it pays only where much content moves. It is given
// to files whose content is in one place for good (see [cow.FS.Backing]); a
// reader of a lower file would otherwise not see what is written after a
// copy-up.
//
// The kernel lets an inode be open either through its pages or passed through,
// and always to the same file, so all descriptors of an inode go one way until
// the last is closed. It keeps count itself and refuses what does not fit. The
// server's count is never below the kernel's, which counts a descriptor off
// before it sends RELEASE.

// Handles of descriptors that are counted.
const (
	pagesHandle  = directHandle + 1 + iota // content goes through the pages of the mount
	passedHandle                           // it does not come here
)

// FUSE_DEV_IOC_BACKING_OPEN and FUSE_DEV_IOC_BACKING_CLOSE.
const (
	devIocBackingOpen  = 0x4010e501
	devIocBackingClose = 0x4004e502
)

// openFiles are the files that are open, by node id, where the kernel tells.
type openFiles struct {
	mu sync.Mutex
	of map[uint64]*openFile
}

// openFile is how one inode is open.
type openFile struct {
	backing int32 // the kernel's number of the file on disk, while passed > 0
	passed  int   // descriptors
	pages   int   // descriptors
	written bool  // one of them can write: attributes change without a request
}

// CanPass tells whether the kernel would pass content through for a server in
// this process: it must be known to the kernel as one that may do all
// (CAP_SYS_ADMIN where all ids exist).
func CanPass() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil || strings.Join(strings.Fields(string(ids)), " ") != "0 0 4294967295" {
		return false
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if unix.Capget(&head, &caps[0]) != nil {
		return false
	}
	return caps[unix.CAP_SYS_ADMIN/32].Effective&(1<<(unix.CAP_SYS_ADMIN%32)) != 0
}

// open answers OPEN.
func (w *worker) open(n *cow.Node) unix.Errno {
	in := body[fuse.OpenIn](w)
	if in == nil {
		return unix.EINVAL
	}
	out := payload[fuse.OpenOut](w)
	return w.s.opening(n, w.hdr.NodeId, in.Flags, out)
}

// opening decides how a descriptor of n reaches its content.
func (s *Server) opening(n *cow.Node, id uint64, flags uint32, out *fuse.OpenOut) unix.Errno {
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	f := s.files.of[id]
	if f == nil {
		f = &openFile{}
		s.files.of[id] = f
	}
	if f.passed == 0 && f.pages == 0 {
		f.backing = s.registerBacking(n)
	}
	if f.backing <= 0 {
		f.pages++
		out.Fh, out.OpenFlags = pagesHandle, fuse.FOPEN_KEEP_CACHE
		return 0
	}
	f.passed++
	out.Fh, out.OpenFlags, out.BackingID = passedHandle, fuse.FOPEN_PASSTHROUGH, f.backing
	if flags&unix.O_ACCMODE != unix.O_RDONLY && !f.written {
		f.written = true
		return errno(s.notifyAttr(n)) // the kernel has kept them for good
	}
	return 0
}

// registerBacking tells the kernel of the file on disk and gives its number
// there; 0 means that there is none to be had.
func (s *Server) registerBacking(n *cow.Node) int32 {
	fd, ok, err := s.u.Backing(n)
	if err != nil || !ok {
		return 0
	}
	defer unix.Close(fd)
	m := fuse.BackingMap{Fd: int32(fd)}
	id, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(s.dev), devIocBackingOpen, uintptr(unsafe.Pointer(&m)))
	if e != 0 {
		return 0
	}
	return int32(id)
}

// closed answers RELEASE.
func (w *worker) closed() unix.Errno {
	in := body[fuse.ReleaseIn](w)
	if w.s.files == nil || in == nil {
		return 0
	}
	s := w.s
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	f := s.files.of[w.hdr.NodeId]
	switch {
	case f == nil:
		return 0
	case in.Fh == pagesHandle:
		f.pages--
	case in.Fh == passedHandle:
		if f.passed--; f.passed == 0 {
			id := f.backing
			_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(s.dev), devIocBackingClose, uintptr(unsafe.Pointer(&id)))
		}
	}
	if f.passed == 0 && f.pages == 0 {
		delete(s.files.of, w.hdr.NodeId)
	}
	return 0
}

// changing tells whether the content of a node may change without a request.
func (s *Server) changing(id uint64) bool {
	if s.files == nil {
		return false
	}
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	f := s.files.of[id]
	return f != nil && f.written
}
