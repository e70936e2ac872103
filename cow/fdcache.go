package cow

import (
	"sync"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// fdCache keeps recently used descriptors open, up to a limit. A descriptor in
// use is pinned and never closed; a permanent one stays pinned.
type fdCache struct {
	mu    sync.Mutex
	limit int
	open  int     // descriptors held, pinned ones included
	table int     // for how many the process's table has room, or will have
	idle  fdEntry // ring of unpinned entries; idle.next is the least recent
	// left counts the users of descriptors that their entries have no more.
	left map[int]int32
}

// fdEntry is the place for one cached descriptor inside its owner. All fields
// are guarded by fdCache.mu.
type fdEntry struct {
	fdPlus1    int32 // 0: none
	pins       int32
	doomed     bool // close as soon as the last pin goes
	prev, next *fdEntry
}

// opener opens the descriptor that belongs in an entry, through fdCache.room.
type opener interface {
	openFD() (int, error)
}

func newFDCache(limit int) *fdCache {
	if limit <= 0 {
		limit = fdLimit()
	}
	c := &fdCache{limit: limit, table: smallTable, left: make(map[int]int32)}
	c.idle.prev, c.idle.next = &c.idle, &c.idle
	return c
}

// get gives e's descriptor, pinned, opening it through o if need be. The
// caller must put it back.
func (c *fdCache) get(e *fdEntry, o opener) (int, error) {
	c.mu.Lock()
	if e.fdPlus1 != 0 && !e.doomed {
		c.pinLocked(e)
		fd := int(e.fdPlus1 - 1)
		c.mu.Unlock()
		return fd, nil
	}
	c.mu.Unlock()
	fd, err := o.openFD()
	if err != nil {
		return -1, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.fdPlus1 != 0 && !e.doomed { // another caller was faster
		sys.Close(fd)
		c.pinLocked(e)
		return int(e.fdPlus1 - 1), nil
	}
	if e.doomed {
		// The old descriptor is still in use elsewhere; its last user closes
		// whatever the entry holds, so give that user its own to close.
		return fd, nil
	}
	e.fdPlus1, e.pins = int32(fd)+1, 1
	c.open++
	if c.open > c.table/2 {
		c.widenLocked(max(c.table*4, wideTable))
	}
	for c.open > c.limit && c.idle.next != &c.idle {
		c.closeLocked(c.idle.next)
	}
	return fd, nil
}

// put gives back a pinned descriptor.
func (c *fdCache) put(e *fdEntry, fd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if int(e.fdPlus1-1) != fd {
		if c.left[fd] > 1 {
			c.left[fd]--
			return
		}
		delete(c.left, fd)
		sys.Close(fd)
		return
	}
	e.pins--
	if e.pins > 0 {
		return
	}
	if e.doomed || c.open > c.limit {
		c.closeLocked(e)
		return
	}
	e.prev, e.next = c.idle.prev, &c.idle
	e.prev.next, e.next.prev = e, e
}

// pin stores a descriptor that stays open until unpin. One that the entry has
// had until now goes, or is left for the last of those who use it to close.
func (c *fdCache) pin(e *fdEntry, fd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case e.fdPlus1 == 0:
	case e.pins == 0:
		c.closeLocked(e)
	default:
		c.left[int(e.fdPlus1-1)] = e.pins
		c.open--
		e.doomed = false
	}
	e.fdPlus1, e.pins = int32(fd)+1, 1
	c.open++
}

// unpin takes back what pin stored: it closes it unless others use it.
func (c *fdCache) unpin(e *fdEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.fdPlus1 == 0 {
		return
	}
	if e.pins--; e.pins > 0 {
		e.doomed = true
		return
	}
	c.closeLocked(e)
}

// drop closes e's descriptor now, or when its last user puts it back.
func (c *fdCache) drop(e *fdEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case e.fdPlus1 == 0:
	case e.pins > 0:
		e.doomed = true
	default:
		c.closeLocked(e)
	}
}

// pinLocked takes e out of the idle ring and counts a user.
func (c *fdCache) pinLocked(e *fdEntry) {
	if e.pins == 0 {
		e.prev.next, e.next.prev = e.next, e.prev
		e.prev, e.next = nil, nil
	}
	e.pins++
}

// closeLocked closes e's descriptor.
func (c *fdCache) closeLocked(e *fdEntry) {
	if e.prev != nil {
		e.prev.next, e.next.prev = e.next, e.prev
		e.prev, e.next = nil, nil
	}
	sys.Close(int(e.fdPlus1 - 1))
	e.fdPlus1, e.pins, e.doomed = 0, 0, false
	c.open--
}

// room calls open until it finds a free descriptor, as long as one can be
// closed for it. What open needs itself must be pinned: two directories on one
// way must not take turns for ever.
func (c *fdCache) room(open func() (int, error)) (int, error) {
	fd, err := open()
	for (err == unix.EMFILE || err == unix.ENFILE) && c.evictOne() {
		fd, err = open()
	}
	return fd, err
}

// evictOne closes the least recently used descriptor.
func (c *fdCache) evictOne() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle.next == &c.idle {
		return false
	}
	c.closeLocked(c.idle.next)
	return true
}

// closeAll closes what is idle. Pinned roots are closed by the process's end
// or by their owners.
func (c *fdCache) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.idle.next != &c.idle {
		c.closeLocked(c.idle.next)
	}
}
