package cow

import (
	"strconv"

	"golang.org/x/sys/unix"
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
