package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// copyUpRemoved copies up a lower directory that is removed and still open: a
// change of it goes to a directory that has no name either. Needs FS.tree
// exclusively.
func (f *FS) copyUpRemoved(n *Node) error {
	lower := n.dir.top
	lfd, err := f.use(lower)
	if err != nil {
		return err
	}
	defer f.done(lower, lfd)
	xattrs, err := readXattrs(n.layer(), lfd, "")
	if err != nil {
		return err
	}
	var st unix.Statx_t
	if err := sys.Stat(lfd, "", &st); err != nil {
		return err
	}
	stage := f.work.stageName()
	if err := f.makeObject(f.work.staging, stage, ondisk.Object{Meta: n.meta, Xattrs: xattrs}); err != nil {
		return err
	}
	if err := setTimes(f.work.staging, stage, &st); err != nil {
		f.work.discard(stage)
		return err
	}
	fd, err := f.fds.room(func() (int, error) { return sys.Open(f.work.staging, stage, unix.O_PATH|unix.O_DIRECTORY, 0) })
	if err == nil {
		if err = sys.Stat(fd, "", &st); err != nil {
			sys.Close(fd)
		}
	}
	f.work.discard(stage)
	if err != nil {
		return err
	}
	for _, d := range n.dir.stack {
		f.dropRef(d)
	}
	up := f.upper.root.sub(f.fds, stage) // nobody goes there: the descriptor is the way
	n.dir.top, n.dir.stack = up, []*dirRef{up}
	n.backIno = unionIno(f.upper, st.Ino)
	f.holdNameless(n, fd)
	if len(xattrs) > 0 {
		f.readFlags(n)
	}
	return nil
}
