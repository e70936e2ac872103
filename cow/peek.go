package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/sys"
	"mica/whiteout"
)

// A directory can be renamed, and its subdirectories can be counted, without
// its merged listing, which may be long: the upper's part tells enough.

// peekUpper reads the upper's part of a directory that merges and is not
// loaded. empty says that nothing is in it, so that the union shows what the
// layers below it show. If the part is opaque, the lower ones are dropped.
// Needs n.dir.mu, or FS.tree exclusively.
func (f *FS) peekUpper(n *Node) (empty bool, err error) {
	d := n.dir
	if d.loaded || len(d.stack) == 1 || d.stack[0].layer != f.upper {
		return false, nil
	}
	fd, err := f.use(d.top)
	if err != nil {
		return false, err
	}
	defer f.done(d.top, fd)
	marks, err := whiteout.ReadDir(fd)
	if err != nil {
		return false, err
	}
	empty = true
	err = sys.List(fd, func(raw []byte, _ uint8, _ uint64) error {
		empty = false
		if mark, _ := whiteout.ParseName(string(raw)); mark == whiteout.Opaque {
			marks.Opaque = true
		}
		return nil
	})
	if err == nil && marks.Opaque {
		f.cutStack(d, 1)
	}
	return empty && !marks.Opaque, err
}

// cutStack drops the directories that one further up hides.
func (f *FS) cutStack(d *dirState, keep int) {
	for _, cut := range d.stack[keep:] {
		f.dropRef(cut)
	}
	d.stack = d.stack[:keep]
}

// countSubdirs counts the subdirectories of a directory that is not loaded, if
// that takes no listing: it lies in one lower layer, and the upper has nothing in
// it. st is the status of its topmost part. Needs n.dir.mu, or FS.tree
// exclusively.
func (f *FS) countSubdirs(n *Node, st *unix.Statx_t) bool {
	d := n.dir
	if len(d.stack) != 2 || st.Nlink > 2 {
		return false
	}
	if empty, err := f.peekUpper(n); err != nil || !empty {
		return false
	}
	lower := d.stack[1]
	fd, err := f.use(lower)
	if err != nil {
		return false
	}
	defer f.done(lower, fd)
	var low unix.Statx_t
	if err := sys.Stat(fd, "", &low); err != nil || low.Nlink < 2 {
		return false // a filesystem that does not count them shows 1
	}
	d.subdirs, d.counted = int(low.Nlink)-2, true
	return true
}
