package fs

import (
	"runtime/debug"
	"sync"

	"mica/cow"
)

// rootID is the kernel's id of the root.
const rootID = 1

// With manyNodes known, nearly all of the heap is nodes, which live long: it may grow by manyNodesGrowth percent between
// two collections instead of doubling. Requests make no garbage, so there are few.
const (
	manyNodes       = 1 << 15
	manyNodesGrowth = 40
)

// table maps the kernel's node ids to nodes. An id is a slot, used again once
// the kernel has forgotten it; the generation tells its users apart.
type table struct {
	mu    sync.RWMutex
	slots []slot // slot i has id i+1
	free  []uint32
	known int
	first uint32 // state of the slots that are appended
}

type slot struct {
	node    *cow.Node
	lookups uint32 // how often the kernel was given the id
	state   uint32 // the generation, and below it how a file is written (direct.go) or a directory was listed (plus.go)
}

// oneGeneration is what a slot's state grows by from one node to the next.
const oneGeneration = 1 << (listerShift + listerBits)

// init makes root the node of rootID.
func (t *table) init(root *cow.Node) {
	t.slots = []slot{{node: root, lookups: 1}}
	root.Handle = rootID
	t.known = 1
}

// get gives the node of an id, nil if the kernel made it up.
func (t *table) get(id uint64) *cow.Node {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if id-1 >= uint64(len(t.slots)) {
		return nil
	}
	return t.slots[id-1].node
}

// give gives n's id for one more reply that carries it.
func (t *table) give(n *cow.Node) (id, generation uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n.Handle == 0 {
		t.known++
		if last := len(t.free) - 1; last >= 0 {
			n.Handle = uint64(t.free[last]) + 1
			t.free = t.free[:last]
		} else {
			t.slots = append(t.slots, slot{state: t.first})
			n.Handle = uint64(len(t.slots))
			if n.Handle == manyNodes {
				go debug.SetGCPercent(manyNodesGrowth)
			}
		}
		t.slots[n.Handle-1].node = n
	}
	s := &t.slots[n.Handle-1]
	s.lookups++
	return n.Handle, uint64(s.state / oneGeneration)
}

// take undoes count calls of give and gives the node.
func (t *table) take(id, count uint64) *cow.Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id-1 >= uint64(len(t.slots)) {
		return nil
	}
	s := &t.slots[id-1]
	n := s.node
	if n == nil || count > uint64(s.lookups) {
		return nil
	}
	s.lookups -= uint32(count)
	if s.lookups == 0 && id != rootID {
		n.Handle = 0
		s.node = nil
		s.state = s.state&^(oneGeneration-1) + oneGeneration
		t.free = append(t.free, uint32(id-1))
		t.known--
		if t.known*4 < len(t.slots) && len(t.slots) > 4096 {
			t.shrink()
		}
	}
	return n
}

// shrink gives back the memory of unused slots at the end.
func (t *table) shrink() {
	end := len(t.slots)
	for end > 1 && t.slots[end-1].node == nil {
		end--
	}
	if end*2 > len(t.slots) {
		return
	}
	// An id that is made anew later must not repeat a generation. Those of known ids stay: the kernel takes an id that comes
	// with another generation for another file, and fails every access to the one that it has.
	for _, s := range t.slots[end:] {
		t.first = max(t.first, s.state)
	}
	t.slots = append(make([]slot, 0, end+end/2), t.slots[:end]...)
	free := make([]uint32, 0, end-t.known)
	for i := range t.slots {
		if t.slots[i].node == nil {
			free = append(free, uint32(i))
		}
	}
	t.free = free
}

// size is the number of ids that the kernel holds.
func (t *table) size() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.known
}
