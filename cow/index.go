package cow

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// The index holds every lower file with several names that was copied up,
// under the inode number that the union shows, which is that of the lower
// file. It is what keeps the names together: a name that is still found in a
// lower layer leads to the same lower inode, and that to the copy.
//
// The link count that the union shows is that on disk plus a recorded number,
// which changes only when a name that is not on disk in the upper goes: so a
// crash between two steps cannot make it drift.

// adoptIndexed makes n the copy of the lower file key if there is one. st
// becomes its status. Needs linkMu.
func (f *FS) adoptIndexed(n *Node, key uint64, st *unix.Statx_t) (bool, error) {
	if !f.work.indexed[key] {
		return false, nil
	}
	back := place{f.work.index, strconv.FormatUint(key, 16)}
	fd, err := f.use(back.dir)
	if err != nil {
		return false, err
	}
	defer f.done(back.dir, fd)
	info, err := f.look(f.upper, fd, back.name, st)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n.back = back
	n.flags |= flagIndexed
	return true, f.adopt(n, info, st, fd, back.name)
}

// dropIndex removes the index entry of a node whose last name is gone. Needs
// FS.tree exclusively.
func (f *FS) dropIndex(n *Node) error {
	fd, err := f.use(f.work.index)
	if err != nil {
		return err
	}
	defer f.done(f.work.index, fd)
	err = unix.Unlinkat(fd, strconv.FormatUint(n.ino, 16), 0)
	if err != nil && err != unix.ENOENT {
		return err
	}
	f.linkMu.Lock()
	delete(f.work.indexed, n.ino)
	f.linkMu.Unlock()
	n.flags &^= flagIndexed
	return nil
}

// apartRecord is what is recorded of a copied-up object that cannot carry a
// record itself, where owners are real: a symlink or special file.
type apartRecord struct {
	ino   uint64 // that the union shows
	nlink int32  // as nlinkXattr, if linked
	many  bool
}

func (r apartRecord) String() string {
	if r.many {
		return fmt.Sprintf("%d %d", r.ino, r.nlink)
	}
	return strconv.FormatUint(r.ino, 10)
}

func parseApart(s string) (r apartRecord, err error) {
	ino, nlink, many := strings.Cut(s, " ")
	if r.ino, err = strconv.ParseUint(ino, 10, 64); err != nil || !many {
		return r, err
	}
	delta, err := strconv.ParseInt(nlink, 10, 32)
	r.nlink, r.many = int32(delta), true
	return r, err
}

// apartRecords are these records by the inode on disk. Each is a symlink in
// the index whose target is the record.
type apartRecords struct {
	mu     sync.Mutex
	byDisk map[uint64]apartRecord
}

func apartName(disk uint64) string { return "ino-" + strconv.FormatUint(disk, 16) }

// load takes note of an entry of the index fd, and tells whether it is one.
func (a *apartRecords) load(fd int, name string) bool {
	rest, ok := strings.CutPrefix(name, "ino-")
	if !ok {
		return false
	}
	disk, err := strconv.ParseUint(rest, 16, 64)
	if err != nil {
		return true
	}
	target, err := sys.Readlink(fd, name)
	if err != nil {
		return true
	}
	if r, err := parseApart(target); err == nil {
		a.set(disk, r)
	}
	return true
}

func (a *apartRecords) set(disk uint64, r apartRecord) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byDisk == nil {
		a.byDisk = make(map[uint64]apartRecord)
	}
	a.byDisk[disk] = r
}

func (a *apartRecords) get(disk uint64) (r apartRecord, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r, ok = a.byDisk[disk]
	return r, ok
}

// recordApart stores the record of the upper object with inode disk.
func (f *FS) recordApart(disk uint64, r apartRecord) error {
	fd, err := f.use(f.work.index)
	if err != nil {
		return err
	}
	defer f.done(f.work.index, fd)
	stage := f.work.stageName()
	if err := unix.Symlinkat(r.String(), f.work.staging, stage); err != nil {
		return err
	}
	if err := sys.Rename(f.work.staging, stage, fd, apartName(disk), 0); err != nil {
		f.work.discard(stage)
		return err
	}
	f.work.apart.set(disk, r)
	return nil
}

// dropApart removes the record of the upper object with inode disk, whose
// number the disk may give out again.
func (f *FS) dropApart(disk uint64) {
	if _, ok := f.work.apart.get(disk); !ok {
		return
	}
	if fd, err := f.use(f.work.index); err == nil {
		_ = unix.Unlinkat(fd, apartName(disk), 0)
		f.done(f.work.index, fd)
	}
	f.work.apart.mu.Lock()
	defer f.work.apart.mu.Unlock()
	delete(f.work.apart.byDisk, disk)
}
