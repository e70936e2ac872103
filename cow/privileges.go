package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// A file that is written to loses its capabilities and, unless by a privileged process, its set-id bits. Here is what the union
// takes for a writer's loss, and what it has to give back because the disk saw its server write.

// hasRealCaps tells whether n has capabilities that the disk knows, and takes
// from a file that is written to.
func (f *FS) hasRealCaps(n *Node) bool {
	f.tree.RLock()
	defer f.tree.RUnlock()
	return n.flags&flagCap != 0 && f.upper.owners == OwnersReal
}

// giveCapsBack sets the capabilities that n had before a write, unless someone
// has removed or replaced them since.
func (f *FS) giveCapsBack(n *Node, fd int, caps []byte) error {
	f.tree.Lock()
	defer f.tree.Unlock()
	if n.flags&flagCap == 0 {
		return nil
	}
	err := sys.Setxattr(fd, "", capXattr, caps, unix.XATTR_CREATE)
	if err == unix.EEXIST {
		return nil
	}
	return err
}

// writeOwn writes to a file of the upper what the union takes for its content already. The disk takes the file's capabilities
// and set-id bits all the same, and gets them back.
func (f *FS) writeOwn(fd int, data []byte, off int64) error {
	if f.upper.owners != OwnersReal {
		return sys.PwriteFull(fd, data, off)
	}
	f.lifting.Lock()
	defer f.lifting.Unlock()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	caps, capsErr := sys.GetxattrAll(fd, "", capXattr)
	if err := sys.PwriteFull(fd, data, off); err != nil {
		return err
	}
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 {
		if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
			return err
		}
	}
	if capsErr != nil {
		return nil
	}
	return sys.Setxattr(fd, "", capXattr, caps, 0)
}

// giveBitsBack sets the set-id bits of n again, which the disk takes where
// owners are real and this process has not the privilege to keep them.
func (f *FS) giveBitsBack(n *Node, fd int) error {
	if f.upper.owners != OwnersReal {
		return nil
	}
	f.tree.RLock()
	has := n.meta.Mode&(unix.S_ISUID|unix.S_ISGID) != 0
	f.tree.RUnlock()
	if !has {
		return nil
	}
	f.tree.Lock()
	defer f.tree.Unlock()
	return f.setMetaReal(fd, "", n.meta)
}

// losesPrivilege tells whether a write must clear set-id bits or the file's
// capabilities first.
func (f *FS) losesPrivilege(n *Node, kill bool) bool {
	return n.flags&flagCap != 0 || kill && killsBits(n.meta.Mode) != 0
}

// killsBits gives the mode bits that a change by an unprivileged process
// clears: set-user-id, and set-group-id where it means that.
func killsBits(mode uint32) uint32 {
	bits := mode & unix.S_ISUID
	if mode&unix.S_IXGRP != 0 {
		bits |= mode & unix.S_ISGID
	}
	return bits
}

// dropPrivilege does what losesPrivilege found. Needs FS.tree exclusively; n
// is in the upper.
func (f *FS) dropPrivilege(n *Node, kill bool) error {
	if n.flags&flagCap != 0 {
		if err := f.removeXattr(n, capXattr); err != nil && err != unix.ENODATA {
			return err
		}
		n.flags &^= flagCap
	}
	if bits := killsBits(n.meta.Mode); kill && bits != 0 {
		m := n.meta
		m.Mode &^= bits
		return f.changeMeta(n, m)
	}
	return nil
}
