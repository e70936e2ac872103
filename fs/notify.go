package fs

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"mica/cow"
)

// The notifications that a server may send, by include/uapi/linux/fuse.h.
const (
	notifyInvalInode = 2
	notifyInvalEntry = 3
)

// Invalidate has the kernel forget what it was told about name in dir, and
// about n, which may be nil: whoever changes the union without the mount calls it
// afterwards. What the kernel does not know needs no forgetting.
func (s *Server) Invalidate(dir *cow.Node, name string, n *cow.Node) error {
	s.ids.mu.RLock()
	parent := dir.Handle
	child := uint64(0)
	if n != nil {
		child = n.Handle
	}
	s.ids.mu.RUnlock()
	if parent == 0 {
		return nil
	}
	if child != 0 {
		if err := s.notify(notifyInvalInode, inodeRange(child), ""); err != nil {
			return fmt.Errorf("invalidate %q: %w", name, err)
		}
	}
	entry := binary.NativeEndian.AppendUint64(nil, parent)
	entry = binary.NativeEndian.AppendUint32(entry, uint32(len(name)))
	entry = binary.NativeEndian.AppendUint32(entry, 0)
	if err := s.notify(notifyInvalEntry, entry, name); err != nil {
		return fmt.Errorf("invalidate %q: %w", name, err)
	}
	if err := s.notify(notifyInvalInode, inodeRange(parent), ""); err != nil {
		return fmt.Errorf("invalidate the directory of %q: %w", name, err)
	}
	return nil
}

// inodeRange names all content and the attributes of an inode.
func inodeRange(id uint64) []byte {
	b := binary.NativeEndian.AppendUint64(nil, id)
	b = binary.NativeEndian.AppendUint64(b, 0)    // offset
	return binary.NativeEndian.AppendUint64(b, 0) // length: to the end
}

// notify sends one message that no request asked for.
func (s *Server) notify(code uint32, body []byte, name string) error {
	if name != "" {
		body = append(append(body, name...), 0)
	}
	msg := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
	msg = binary.NativeEndian.AppendUint32(msg, code)
	msg = binary.NativeEndian.AppendUint64(msg, 0)
	_, err := unix.Write(s.dev, append(msg, body...))
	if err == unix.ENOENT { // the kernel does not know it
		return nil
	}
	return err
}
