package fs

import (
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A file that is created only to be written is written past the page cache of
// the mount: the data is copied once less, and the kernel does not ask for
// security.capability first, as it does before it writes to an inode's pages.
// The descriptor that made the file has a handle that says so; all others use
// pages. The kernel drops the pages that a direct write covers before it sends
// the request. One that a reader brings in again before the server has carried
// the write out would stay with the old content, so the server drops it once
// more, if there was a reader at all.
//
// A read marks its node before it reads, and a write looks for the mark after
// it has written: a read that the write does not see has read what it wrote.

// directHandle is the handle of descriptors that write directly. All others
// have 0, since the kernel opens files without asking.
const directHandle = 1

// What slot.state says of a file.
const (
	writtenDirectly = 1 << iota
	readSince

	writesMask = writtenDirectly | readSince
)

// markDirect notes that a file is written directly.
func (t *table) markDirect(id uint64, known bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	state := uint32(writtenDirectly)
	if known {
		state |= readSince // there may be pages that were read before
	}
	atomic.OrUint32(&t.slots[id-1].state, state)
}

// markRead notes that pages of a file are read.
func (t *table) markRead(id uint64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := &t.slots[id-1]
	old := atomic.LoadUint32(&s.state)
	marks := uint32(outdated)
	if old&writesMask == writtenDirectly {
		marks |= readSince
	}
	if old&marks != marks {
		atomic.OrUint32(&s.state, marks)
	}
}

// readSince tells whether the kernel may have pages of a file that is written
// directly.
func (t *table) readSince(id uint64) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return atomic.LoadUint32(&t.slots[id-1].state)&readSince != 0
}

// dropPages has the kernel forget the pages that a direct write covered. It
// may wait for a read of one of them, which another worker answers.
func (w *worker) dropPages(in *fuse.WriteIn) error {
	w.s.crew.ensure(w.s)
	msg := fuse.NotifyInvalInodeOut{Ino: w.hdr.NodeId, Off: int64(in.Offset), Length: int64(in.Size)}
	return w.s.notify(fuse.NOTIFY_INVAL_INODE, bytesOf(&msg), nil)
}
