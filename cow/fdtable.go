package cow

import "golang.org/x/sys/unix"

// The kernel's table of a process's descriptors grows by doubling. In a process
// of several threads each growth waits until no other processor can still see
// the old table, which takes 5 to 15 ms, and so does the request that opened
// one descriptor too many. So the table is made large before it is full, by a
// thread that has nothing else to do.

const (
	// smallTable is for how many descriptors a process begins with a table.
	smallTable = 64
	// wideTable is what suffices for most trees: 32 KiB of memory.
	wideTable = 4096
)

// Widen makes room for the descriptors of a busy union ahead of its work.
func (f *FS) Widen() {
	c := f.fds
	c.mu.Lock()
	defer c.mu.Unlock()
	c.widenLocked(wideTable)
}

// widenLocked has the table grow to size or the limit. Needs c.mu.
func (c *fdCache) widenLocked(size int) {
	size = min(size, c.limit)
	if size <= c.table {
		return
	}
	c.table = size
	go growTable(size)
}

// growTable returns when the table has room for size descriptors. If it gets
// none, it grows when it must.
func growTable(size int) {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if last, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, size-1); err == nil {
		unix.Close(last)
	}
}
