package cow

import "unsafe"

// nameArena keeps the names of one listing in few allocations: a directory's
// names live and die together.
type nameArena struct {
	chunk []byte
}

const (
	firstChunk = 128
	lastChunk  = 4096
)

// keep gives a copy of name that stays valid.
func (a *nameArena) keep(name []byte) string {
	if len(name) == 0 {
		return ""
	}
	if len(a.chunk)+len(name) > cap(a.chunk) {
		size := min(max(firstChunk, 2*cap(a.chunk)), lastChunk)
		a.chunk = make([]byte, 0, max(size, len(name)))
	}
	start := len(a.chunk)
	a.chunk = append(a.chunk, name...)
	return unsafe.String(&a.chunk[start], len(name))
}
