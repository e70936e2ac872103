package fs

import (
	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/internal/idcall"
)

// The init of a sandbox with one id asks by attributes for what the kernel
// would refuse it; see package idcall.

// idGet answers a request that comes as the reading of an attribute. ok is
// false for an ordinary attribute.
func (w *worker) idGet(n *cow.Node, attr string, buf []byte) (size int, status unix.Errno, ok bool) {
	req, err := idcall.Parse(w.s.opt.Token, attr)
	if err != nil {
		return 0, unix.EINVAL, true
	}
	var answer string
	switch req.Op {
	case idcall.Owner:
		var a cow.Attr
		if err := w.s.u.Getattr(n, &a); err != nil {
			return 0, errno(err), true
		}
		answer = idcall.FormatOwner(a.UID, a.GID)
	case idcall.Node:
		if len(buf) == 0 {
			return 0, unix.ERANGE, true // only the size was asked for: nothing is to happen yet
		}
		if status := w.idNode(n, req); status != 0 {
			return 0, status, true
		}
		answer = "ok"
	default:
		return 0, 0, false
	}
	if len(buf) > 0 && len(buf) < len(answer) {
		return 0, unix.ERANGE, true
	}
	copy(buf, answer)
	return len(answer), 0, true
}

// idNode makes a device node, which the kernel then must not take for absent.
func (w *worker) idNode(dir *cow.Node, req idcall.Request) unix.Errno {
	switch req.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK:
	default:
		return unix.EINVAL
	}
	caller := cow.Caller{UID: req.UID, GID: req.GID}
	n, err := w.s.u.Create(caller, dir, req.Name, cow.NewObject{Mode: req.Mode, Rdev: req.Rdev}, nil)
	if err != nil {
		return errno(err)
	}
	defer w.s.u.Forget(n, 1)
	w.s.crew.ensure(w.s)
	return errno(w.s.Invalidate(dir, req.Name, nil))
}

// idSet carries out a request that comes as the setting of an attribute.
func (w *worker) idSet(n *cow.Node, attr string, value []byte) (status unix.Errno, ok bool) {
	req, err := idcall.Parse(w.s.opt.Token, attr)
	if err != nil {
		return unix.EINVAL, true
	}
	if req.Op != idcall.Owner {
		return 0, false
	}
	uid, gid, err := idcall.ParseOwner(string(value))
	if err != nil {
		return unix.EINVAL, true
	}
	set := cow.SetAttr{Kill: !n.IsDir()}
	if uid != idcall.Keep {
		set.UID = &uid
	}
	if gid != idcall.Keep {
		set.GID = &gid
	}
	if err := w.s.u.Setattr(n, set, nil); err != nil {
		return errno(err), true
	}
	return errno(w.s.notifyAttr(n)), true
}

// blksize is the block size that is shown: of files whose owner is not shown,
// the one that tells so.
func (s *Server) blksize(a *cow.Attr) uint32 {
	switch {
	case s.opt.Token == "":
		return a.Blksize
	case mapID(s.opt.ShowUID, a.UID) != a.UID, mapID(s.opt.ShowGID, a.GID) != a.GID:
		return idcall.HiddenBlksize
	case a.Blksize == idcall.HiddenBlksize:
		return idcall.ShownBlksize
	}
	return a.Blksize
}
