package fs

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"mica/cow"
)

// setAttr fills in the attributes that the mount shows.
func (s *Server) setAttr(out *fuse.Attr, a *cow.Attr) {
	out.Ino = a.Ino
	out.Size = uint64(a.Size)
	out.Blocks = uint64(a.Blocks)
	out.Atime, out.Atimensec = uint64(a.Atime.Sec), a.Atime.Nsec
	out.Mtime, out.Mtimensec = uint64(a.Mtime.Sec), a.Mtime.Nsec
	out.Ctime, out.Ctimensec = uint64(a.Ctime.Sec), a.Ctime.Nsec
	out.Mode = a.Mode
	out.Nlink = a.Nlink
	out.Uid, out.Gid = mapID(s.opt.ShowUID, a.UID), mapID(s.opt.ShowGID, a.GID)
	out.Rdev = a.Rdev
	out.Blksize = s.blksize(a)
}

func mapID(f func(uint32) uint32, id uint32) uint32 {
	if f == nil {
		return id
	}
	return f(id)
}

// valid gives how long an answer stays true, in seconds and nanoseconds.
func (s *Server) valid() (uint64, uint32) {
	if t := s.opt.Timeout; t > 0 {
		return uint64(t / 1e9), uint32(t % 1e9)
	}
	return forGood, 0
}

// attrValid is valid for the attributes of a node.
func (s *Server) attrValid(id uint64) (uint64, uint32) {
	if s.changing(id) {
		return 0, 0
	}
	return s.valid()
}

// setEntry fills in the reply that introduces n, of which the kernel then has
// one more reference.
func (s *Server) setEntry(out *fuse.EntryOut, n *cow.Node, a *cow.Attr) {
	out.NodeId, out.Generation = s.ids.give(n)
	out.EntryValid, out.EntryValidNsec = s.valid()
	out.AttrValid, out.AttrValidNsec = s.attrValid(out.NodeId)
	s.setAttr(&out.Attr, a)
}

// entry replies with a node that the union has just given out.
func (w *worker) entry(n *cow.Node, a *cow.Attr) unix.Errno {
	w.s.setEntry(payload[fuse.EntryOut](w), n, a)
	return 0
}

// attr replies with attributes.
func (w *worker) attr(a *cow.Attr) unix.Errno {
	out := payload[fuse.AttrOut](w)
	out.AttrValid, out.AttrValidNsec = w.s.attrValid(w.hdr.NodeId)
	w.s.setAttr(&out.Attr, a)
	return 0
}

func (w *worker) getattr(n *cow.Node) unix.Errno {
	var a cow.Attr
	if err := w.current(n, &a); err != nil {
		return errno(err)
	}
	return w.attr(&a)
}

// current gives the attributes that a reply tells the kernel.
func (w *worker) current(n *cow.Node, a *cow.Attr) error {
	err := w.s.u.Getattr(n, a)
	if err == nil && !n.IsDir() {
		w.s.ids.updated(w.hdr.NodeId)
	}
	return err
}

func sxTime(t unix.StatxTimestamp) fuse.SxTime {
	var out fuse.SxTime
	out.FromStatxTimestamp(&t)
	return out
}

// statx is getattr with the time of birth.
func (w *worker) statx(n *cow.Node) unix.Errno {
	var a cow.Attr
	if err := w.current(n, &a); err != nil {
		return errno(err)
	}
	out := payload[fuse.StatxOut](w)
	out.AttrValid, out.AttrValidNsec = w.s.attrValid(w.hdr.NodeId)
	x := &out.Statx
	x.Mask = unix.STATX_BASIC_STATS
	if a.Btime != (unix.StatxTimestamp{}) {
		x.Mask |= unix.STATX_BTIME
	}
	x.Blksize, x.Nlink, x.Mode = w.s.blksize(&a), a.Nlink, uint16(a.Mode)
	x.Uid, x.Gid = mapID(w.s.opt.ShowUID, a.UID), mapID(w.s.opt.ShowGID, a.GID)
	x.Ino, x.Size, x.Blocks = a.Ino, uint64(a.Size), uint64(a.Blocks)
	x.Atime, x.Btime, x.Ctime, x.Mtime = sxTime(a.Atime), sxTime(a.Btime), sxTime(a.Ctime), sxTime(a.Mtime)
	x.RdevMajor, x.RdevMinor = unix.Major(uint64(a.Rdev)), unix.Minor(uint64(a.Rdev))
	return 0
}

func (w *worker) setattr(n *cow.Node) unix.Errno {
	in := body[fuse.SetAttrIn](w)
	if in == nil {
		return unix.EINVAL
	}
	var s cow.SetAttr
	if in.Valid&fuse.FATTR_MODE != 0 {
		mode := in.Mode & 0o7777
		s.Mode = &mode
	}
	if in.Valid&fuse.FATTR_UID != 0 {
		uid := mapID(w.s.opt.StoreUID, in.Uid)
		s.UID = &uid
	}
	if in.Valid&fuse.FATTR_GID != 0 {
		gid := mapID(w.s.opt.StoreGID, in.Gid)
		s.GID = &gid
	}
	if in.Valid&fuse.FATTR_SIZE != 0 {
		size := int64(in.Size)
		s.Size = &size
	}
	s.Atime = setTime(in.Valid, fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec)
	s.Mtime = setTime(in.Valid, fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec)
	s.Kill = in.Valid&fuse.FATTR_KILL_SUIDGID != 0
	const changes = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID | fuse.FATTR_SIZE | fuse.FATTR_ATIME | fuse.FATTR_MTIME
	if in.Valid&changes == 0 && !n.IsDir() {
		// That is all that is left of them on the way through the kernel.
		s.KillPriv = true
		s.KillGroup = w.outsideGroup(n)
	}
	var a cow.Attr
	if err := w.s.u.Setattr(n, s, &a); err != nil {
		return errno(err)
	}
	return w.attr(&a)
}

// outsideGroup tells whether whoever asks is neither root nor in n's group, as
// far as it matters: for a set-group-id bit of a file that its group may not
// execute, which such a process must not keep (see setattr_should_drop_sgid).
func (w *worker) outsideGroup(n *cow.Node) bool {
	var a cow.Attr
	if w.hdr.Uid == 0 || w.s.u.Getattr(n, &a) != nil || a.Mode&unix.S_ISGID == 0 {
		return false
	}
	gid := mapID(w.s.opt.ShowGID, a.GID)
	return gid != w.hdr.Gid && !w.inGroup(gid)
}

// inGroup tells whether the process that asks has a supplementary group.
func (w *worker) inGroup(gid uint32) bool {
	p := w.s.procs.Load()
	if p == nil {
		return false
	}
	status, err := p.Status(w.hdr.Pid)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if list, ok := strings.CutPrefix(line, "Groups:"); ok {
			return slices.Contains(strings.Fields(list), strconv.FormatUint(uint64(gid), 10))
		}
	}
	return false
}

// setTime gives the time to set, nil for none.
func setTime(valid, bit, nowBit uint32, sec uint64, nsec uint32) *unix.Timespec {
	switch {
	case valid&bit == 0:
		return nil
	case valid&nowBit != 0:
		return &unix.Timespec{Nsec: unix.UTIME_NOW}
	}
	return &unix.Timespec{Sec: int64(sec), Nsec: int64(nsec)}
}

func (w *worker) statfs() unix.Errno {
	var st unix.Statfs_t
	if err := w.s.u.Statfs(&st); err != nil {
		return errno(err)
	}
	out := payload[fuse.StatfsOut](w)
	out.Blocks, out.Bfree, out.Bavail = st.Blocks, st.Bfree, st.Bavail
	out.Files, out.Ffree = st.Files, st.Ffree
	out.Bsize, out.Frsize = uint32(st.Bsize), uint32(st.Frsize)
	out.NameLen = uint32(st.Namelen)
	return 0
}
