package cow

import "golang.org/x/sys/unix"

// Backing opens the one file on disk that holds all of n's content, now and as
// long as n lives. The caller closes it. ok is false where there is none: a
// file that is partly in a lower layer, and one in a lower layer that the next
// change copies up.
func (f *FS) Backing(n *Node) (fd int, ok bool, err error) {
	f.tree.RLock()
	defer f.tree.RUnlock()
	if n.meta.Type() != unix.S_IFREG || n.flags&flagPartly != 0 || !f.inUpper(n) && !f.ReadOnly() {
		return -1, false, nil
	}
	c, err := f.open(n)
	if err != nil {
		return -1, false, err
	}
	defer c.put()
	fd, err = f.fds.room(func() (int, error) { return unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, 0) })
	return fd, err == nil, err
}
