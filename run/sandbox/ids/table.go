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

// Table keeps the credentials that have occurred. The zero number of a process stands for the base credentials.
type Table struct {
	base   Creds
	shared []byte

	mu      sync.Mutex
	numbers map[Creds]uint32
	list    []Creds
}

// NewTable makes the table of a sandbox. Processes have the base credentials until they change them. shared is the memory
// that the table and its View share: SharedSize zero bytes.
func NewTable(base Creds, shared []byte) *Table {
	return &Table{base: base, shared: shared, numbers: map[Creds]uint32{}}
}

// Base are the credentials of a process that has not changed any.
func (t *Table) Base() Creds { return t.base }

// ErrFull says that too many different credentials have occurred in one sandbox.
var ErrFull = errors.New("table of credentials is full")

func word(shared []byte, offset int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&shared[offset]))
}

// number enters credentials.
func (t *Table) number(c Creds) (uint32, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n, ok := t.numbers[c]; ok {
		return n, nil
	}
	n := uint32(len(t.list))
	if n >= maxEntries {
		return 0, ErrFull
	}
	t.list = append(t.list, c)
	t.numbers[c] = n
	at := headerSize + int(n)*entrySize
	word(t.shared, at).Store(c.FSUID)
	word(t.shared, at+4).Store(c.FSGID)
	if c.FSUID != t.base.FSUID || c.FSGID != t.base.FSGID {
		word(t.shared, otherOffset).Store(1)
	}
	word(t.shared, countOffset).Store(n + 1)
	return n, nil
}

// Limit is the value of the resource limit for credentials.
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
	var l unix.Rlimit
	if err := unix.Prlimit(tid, Resource, nil, &l); err != nil {
		return Creds{}, false, fmt.Errorf("read credentials of %d: %w", tid, err)
	}
	n, ok := numberIn(l.Cur)
	if !ok {
		return t.base, true, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(n) >= len(t.list) {
		return t.base, true, nil
	}
	return t.list[n], false, nil
}

// Set changes the credentials of a process (0: of the calling one).
func (t *Table) Set(tid int, c Creds) error {
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
