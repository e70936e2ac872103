package ids

import "golang.org/x/sys/unix"

// accessCall reads a call of the access family from its registers, as a question about it; nil for any other.
func accessCall(r *registers) *question {
	a := r.args()
	switch r.number() {
	case sysAccess:
		return &question{Kind: askAccess, Dirfd: unix.AT_FDCWD, Path: a[0], Mode: a[1]}
	case unix.SYS_FACCESSAT:
		return &question{Kind: askAccess, Dirfd: int32(a[0]), Path: a[1], Mode: a[2]}
	case unix.SYS_FACCESSAT2:
		return &question{Kind: askAccess, Dirfd: int32(a[0]), Path: a[1], Mode: a[2], Flags: int32(a[3])}
	}
	return nil
}

// deny takes back what the kernel has granted to a user whom it takes for root.
func (t *tracer) deny(tid int, th *thread, q *question) {
	if _, _, other := t.foreign.view.ownerOf(tid); !other || q.Mode == unix.F_OK {
		return
	}
	var after registers
	if after.read(tid) != nil || after.result() != 0 {
		return
	}
	q.TID = t.id(tid, th)
	if t.answers.ask(q).OK != 0 {
		after.setResult(-int64(unix.EACCES))
		_ = after.write(tid)
	}
}

// denies says whether the mode of a file does not permit a thread what it asks for. The directories on the way to the file are not
// looked at, and neither are files with an ACL.
func (s *Server) denies(tid, fd int, q *question) bool {
	creds, err := s.table.Get(tid)
	var st unix.Stat_t
	if err != nil || unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return false
	}
	if _, err := unix.Getxattr(self(fd), "system.posix_acl_access", nil); err == nil {
		return false
	}
	uid, gid, ok, err := s.files.Owner(fd)
	if err != nil || !ok {
		return false
	}
	if q.Flags&unix.AT_EACCESS == 0 {
		creds = creds.real()
	}
	return !creds.permits(uint32(q.Mode), uid, gid, st.Mode)
}
