package ids

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Resource is the limit whose soft value is the number of a process's credentials: RLIMIT_LOCKS.
const Resource = 10

// mark is the upper half of such a value, so that no other one is taken for it.
const mark = uint64(0x6d696361) << 32

// numberIn is the number of the credentials that a limit holds; ok is false for the limit of a process that never changed any.
func numberIn(limit uint64) (n uint32, ok bool) { return uint32(limit), limit&^0xffffffff == mark }

// The shared memory begins with the number of entries (4 bytes) and whether any of them gives new files another owner than the
// base credentials (4 bytes). Entries follow: user and group of new files, 4 bytes each, for the credentials 0, 1, ...
const (
	SharedSize  = 64 << 10
	headerSize  = 8
	entrySize   = 8
	maxEntries  = (SharedSize - headerSize) / entrySize
	countOffset = 0
	otherOffset = 4
)

// Table keeps the credentials that have occurred, as long as there is room, and after that those that processes have. A
// process without a number has the base credentials.
type Table struct {
	base   Creds
	shared []byte
	proc   int // the sandbox's /proc, once a Server has the table; without it no number is free again

	mu      sync.Mutex // over each look at a limit and what its number stands for, and over each change of both
	numbers map[Creds]uint32
	list    []Creds
	free    []uint32 // numbers in list that no process has
}

// NewTable makes the table of a sandbox. Processes have the base credentials until they change them. shared is the memory
// that the table and its View share: SharedSize zero bytes.
func NewTable(base Creds, shared []byte) *Table {
	return &Table{base: base, shared: shared, proc: -1, numbers: map[Creds]uint32{}}
}

// Base are the credentials of a process that has not changed any.
func (t *Table) Base() Creds { return t.base }

// ErrFull says that the processes of one sandbox have too many different credentials.
var ErrFull = errors.New("table of credentials is full")

func word(shared []byte, offset int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&shared[offset]))
}

// number enters credentials. The caller holds mu until a process has the number.
func (t *Table) number(c Creds) (uint32, error) {
	if n, ok := t.numbers[c]; ok {
		return n, nil
	}
	if len(t.list) == maxEntries && len(t.free) == 0 {
		t.reclaim()
	}
	n := uint32(len(t.list))
	switch last := len(t.free) - 1; {
	case last >= 0:
		n, t.free = t.free[last], t.free[:last]
		t.list[n] = c
	case n < maxEntries:
		t.list = append(t.list, c)
	default:
		return 0, ErrFull
	}
	t.numbers[c] = n
	at := headerSize + int(n)*entrySize
	word(t.shared, at).Store(c.FSUID)
	word(t.shared, at+4).Store(c.FSGID)
	if c.FSUID != t.base.FSUID || c.FSGID != t.base.FSGID {
		word(t.shared, otherOffset).Store(1)
	}
	word(t.shared, countOffset).Store(uint32(len(t.list)))
	return n, nil
}

// limit is the value of the resource limit for credentials. The caller holds mu, as for number.
func (t *Table) limit(c Creds) (uint64, error) {
	if c == t.base {
		return unix.RLIM_INFINITY, nil
	}
	n, err := t.number(c)
	return mark | uint64(n), err
}

// Get returns the credentials of a process, given one of its threads.
func (t *Table) Get(tid int) (Creds, error) {
	c, _, err := t.get(tid)
	return c, err
}

// get also says whether the process has never changed its credentials.
func (t *Table) get(tid int) (Creds, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var l unix.Rlimit
	if err := unix.Prlimit(tid, Resource, nil, &l); err != nil {
		return Creds{}, false, fmt.Errorf("read credentials of %d: %w", tid, err)
	}
	n, ok := numberIn(l.Cur)
	if !ok || int(n) >= len(t.list) {
		return t.base, true, nil
	}
	return t.list[n], false, nil
}

// Set changes the credentials of a process (0: of the calling one).
func (t *Table) Set(tid int, c Creds) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	cur, err := t.limit(c)
	if err != nil {
		return err
	}
	var old unix.Rlimit
	if err = unix.Prlimit(tid, Resource, nil, &old); err == nil {
		err = unix.Prlimit(tid, Resource, &unix.Rlimit{Cur: cur, Max: old.Max}, nil)
	}
	if err != nil {
		return fmt.Errorf("set credentials of %d: %w", tid, err)
	}
	return nil
}

// anybody says whether a process has ever had other credentials than the base ones.
func (t *Table) anybody() bool { return word(t.shared, countOffset).Load() != 0 }
