package fs

import (
	"sync"
	"sync/atomic"

	"mica/cow"
)

// The kernel asks for listings together with the attributes of what is listed,
// since it cannot know whether its client wants them. For ls -l, tar and rm they
// spare a lookup of every name; find and completion look at directories alone,
// and for them each attribute is two system calls on the disk, and a node in
// memory, for nothing. So the server watches what clients do. The beginning of
// a client's first listings has all attributes; after that, those of
// directories only, and of files that were read: a read makes what the kernel
// knows of a file out of date, since it moves the time of access. If other names
// are looked up then, the next listings have all of them to the end, each time
// more listings before the next try.

// lister is a thread that lists directories.
type lister struct {
	pid   uint32
	known bool // its wishes are: it has missed attributes before
	left  int  // listings with attributes until the next try
	grant int  // what left began with the last time
}

const (
	listerBits = 6
	firstGrant = 2
	nextGrant  = 16
	lastGrant  = 4096
)

// listers are those of the last time.
type listers struct {
	mu sync.Mutex
	of [1 << listerBits]lister
}

// begin tells whether a listing that the thread pid begins is to have all
// attributes in its first reply, and in the others, and which lister it is.
func (l *listers) begin(pid uint32) (first, rest bool, which uint32) {
	which = pid % uint32(len(l.of))
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.of[which]
	if r.pid != pid || r.grant == 0 {
		*r = lister{pid: pid, left: firstGrant, grant: firstGrant}
	}
	if r.left == 0 {
		return false, false, which
	}
	r.left--
	return true, r.known, which
}

// missed notes that attributes which a lister did not get were wanted.
func (l *listers) missed(which uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.of[which]
	if !r.known || r.left == 0 {
		r.known = true
		r.grant = min(max(r.grant*2, nextGrant), lastGrant)
		r.left = r.grant
	}
}

// A slot's state says of a directory whether its last listing lacked attributes
// of others than directories, and who got it.
const (
	listedBare  = 1 << 2
	listerShift = 3
	listerMask  = (1<<listerBits - 1) << listerShift
)

// outdated says of a file that it was read after its attributes were given.
const outdated = 1 << listerShift

// isOutdated tells whether the kernel knows that attributes which it has of a
// file are out of date.
func (t *table) isOutdated(n *cow.Node) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return n.Handle != 0 && atomic.LoadUint32(&t.slots[n.Handle-1].state)&outdated != 0
}

// updated notes that the kernel gets a file's attributes.
func (t *table) updated(id uint64) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := &t.slots[id-1]
	if atomic.LoadUint32(&s.state)&outdated != 0 {
		atomic.AndUint32(&s.state, ^uint32(outdated))
	}
}

// listed notes how a directory was listed.
func (t *table) listed(id uint64, bare bool, which uint32) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := &t.slots[id-1]
	old := atomic.LoadUint32(&s.state)
	state := old &^ (listedBare | listerMask)
	if bare {
		state |= listedBare | which<<listerShift
	}
	if state != old {
		atomic.StoreUint32(&s.state, state)
	}
}

// bare tells whether the last listing of a directory was bare, and who got it.
func (t *table) bare(id uint64) (bare bool, which uint32) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	state := atomic.LoadUint32(&t.slots[id-1].state)
	return state&listedBare != 0, state & listerMask >> listerShift
}
