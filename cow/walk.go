package cow

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A client that lists a directory mostly goes on to those in it. One that reads
// files in the order of the listing, as tar, cp and grep do, mostly reads those
// that follow.

// walk is how far files of a directory were read in order.
type walk struct {
	mu  sync.Mutex
	dir uint64 // the directory's inode number
	at  uint32 // the cookie of the last file
	to  uint32 // that of the last one fetched
	run int    // files in order until now, also through several directories
}

const (
	walkRun   = 3  // files in order that make a walk
	walkGap   = 4  // names that it may leave out
	walkAhead = 16 // names fetched ahead
)

// read notes that a file was begun, and gives the cookie after which to fetch
// others, if it is time to.
func (w *walk) read(dir uint64, cookie uint32) (from uint32, fetch bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case dir != w.dir:
		w.dir, w.to = dir, cookie
	case cookie > w.at && cookie-w.at <= walkGap:
		w.run++
	default:
		w.run, w.to = 0, cookie
	}
	w.at = cookie
	w.to = max(w.to, cookie)
	return w.to, w.run >= walkRun && w.to-cookie <= walkAhead/2
}

// fetched notes up to which cookie files of a directory were fetched.
func (w *walk) fetched(dir uint64, cookie uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dir == dir {
		w.to = cookie
	}
}

// aheadOfListing fetches the directories in n that are not known yet. Needs
// n.dir.mu and the right to read FS.tree.
func (f *FS) aheadOfListing(n *Node) {
	if !f.ahead.isCold() {
		return
	}
	var next []prefetch
	add := func(dir *dirRef, name string) {
		if dir.layer != f.upper {
			next = append(next, prefetch{dir, name, unix.DT_DIR})
		}
	}
	for _, ent := range n.dir.order {
		if ent.gone || ent.typ != unix.DT_DIR || ent.node != nil {
			continue
		}
		add(ent.owner, ent.name)
		for _, below := range ent.parts() {
			if below.layer.catalog.get() == nil {
				add(below, ent.name)
			}
		}
		if len(next) >= prefetchMax {
			break
		}
	}
	f.ahead.push(f, next)
}

// aheadOfRead fetches the files that follow n, whose first bytes are about to
// be read, if it was reached by a walk. Needs the right to read FS.tree.
func (f *FS) aheadOfRead(n *Node) {
	if !f.ahead.isCold() {
		return
	}
	f.linkMu.Lock() // a lookup may be giving n a name
	dir, read := n.parent, n.ent
	f.linkMu.Unlock()
	if dir == nil || read == nil {
		return
	}
	d := dir.dir
	d.mu.Lock()
	defer d.mu.Unlock()
	from, fetch := f.ahead.read(dir.ino, read.cookie)
	if !fetch {
		return
	}
	var next []prefetch
	first := d.after(uint64(from))
	for _, ent := range d.order[first:min(first+walkAhead, len(d.order))] {
		from = ent.cookie
		if !ent.gone && ent.typ == unix.DT_REG && ent.owner.layer != f.upper {
			next = append(next, prefetch{ent.owner, ent.name, unix.DT_REG})
		}
	}
	f.ahead.fetched(dir.ino, from)
	f.ahead.push(f, next)
}

// noteRead learns from how long a read took that began at start.
func (f *FS) noteRead(start time.Time, size int) {
	const page = 4096
	f.ahead.note(time.Since(start), 1, size/page)
}
