package fs

import (
	"fmt"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"mica/cow"
)

// Invalidate tells the kernel that name in dir, and the attributes and content
// of n, were changed by another way than the mount. n may be nil. The caller
// must hold references to both. What the kernel does not know is no error.
func (s *Server) Invalidate(dir *cow.Node, name string, n *cow.Node) error {
	<-s.ready
	if n != nil {
		if err := s.notifyInode(n); err != nil {
			return err
		}
	}
	if dir == nil {
		return nil
	}
	if err := s.notifyInode(dir); err != nil {
		return err
	}
	id := s.ids.handle(dir)
	if id == 0 {
		return nil
	}
	head := fuse.NotifyInvalEntryOut{Parent: id, NameLen: uint32(len(name))}
	return s.notify(fuse.NOTIFY_INVAL_ENTRY, bytesOf(&head), append([]byte(name), 0))
}

// notifyInode has the kernel ask again for attributes, content and listing.
func (s *Server) notifyInode(n *cow.Node) error {
	id := s.ids.handle(n)
	if id == 0 {
		return nil
	}
	return s.notifyContent(id)
}

// notifyContent has the kernel give to the server what it has of the content with an id, and forget it with the attributes.
func (s *Server) notifyContent(id uint64) error {
	return s.notify(fuse.NOTIFY_INVAL_INODE, bytesOf(&fuse.NotifyInvalInodeOut{Ino: id, Length: -1}), nil)
}

// notifyAttr has the kernel ask again for attributes alone.
func (s *Server) notifyAttr(n *cow.Node) error {
	id := s.ids.handle(n)
	if id == 0 {
		return nil
	}
	return s.notify(fuse.NOTIFY_INVAL_INODE, bytesOf(&fuse.NotifyInvalInodeOut{Ino: id, Off: -1}), nil)
}

// WriteBack has the kernel give to the server what processes have put into mapped pages of the files with some inode numbers. It
// forgets their pages on the way.
func (s *Server) WriteBack(inodes []uint64) error {
	<-s.ready
	wanted := make(map[uint64]bool, len(inodes))
	for _, ino := range inodes {
		wanted[ino] = true
	}
	for _, id := range s.ids.those(func(n *cow.Node) bool { return wanted[s.u.Ino(n)] }) {
		if err := s.notifyContent(id); err != nil {
			return err
		}
	}
	return nil
}

// those gives the ids of nodes of which something holds.
func (t *table) those(holds func(*cow.Node) bool) (ids []uint64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range t.slots {
		if n := t.slots[i].node; n != nil && holds(n) {
			ids = append(ids, uint64(i)+1)
		}
	}
	return ids
}

// handle gives the id of a node, 0 if the kernel has none.
func (t *table) handle(n *cow.Node) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return n.Handle
}

func bytesOf[T any](v *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// notify sends a message that answers no request. What the kernel does not know is no error.
func (s *Server) notify(code int32, head, tail []byte) error {
	_, err := s.tell(code, head, tail)
	return err
}

// tell is notify that says whether the kernel knew what the message is about.
func (s *Server) tell(code int32, head, tail []byte) (known bool, err error) {
	out := fuse.OutHeader{Length: uint32(outHeaderSize + len(head) + len(tail)), Status: -code}
	s.devMu.RLock()
	defer s.devMu.RUnlock()
	if s.closed {
		return false, nil
	}
	msg := append(append(append(make([]byte, 0, out.Length), bytesOf(&out)...), head...), tail...)
	for {
		_, err := unix.Write(s.dev, msg)
		switch err {
		case nil:
			return true, nil
		case unix.ENOENT:
			return false, nil
		case unix.EINTR:
			continue
		}
		return false, fmt.Errorf("tell the kernel of a change: %w", err)
	}
}
