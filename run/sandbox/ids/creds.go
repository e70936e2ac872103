package ids

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// none as an argument leaves an id as it is.
const none = ^uint32(0)

// Creds are the emulated credentials of a process; see credentials(7). They are comparable.
type Creds struct {
	RUID, EUID, SUID, FSUID uint32
	RGID, EGID, SGID, FSGID uint32
	groups                  string // supplementary groups, four bytes each

	// Capabilities, of those that the process really has, but for the inheritable ones, which are the real ones.
	permitted, effective uint64
	ambient              uint64
	bounding             uint64 // those that root gets when it executes a program
	secure               uint32 // see PR_SET_SECUREBITS in prctl(2)
	noNewPrivs           bool   // see PR_SET_NO_NEW_PRIVS
}

// Bits of secure; see capabilities(7). The lock of each is the next one.
const (
	secureNoRoot         = 1 << 0
	secureNoFixup        = 1 << 2
	secureKeepCaps       = 1 << 4
	secureNoAmbientRaise = 1 << 6
	secureAll            = 1<<8 - 1
	secureBits           = secureNoRoot | secureNoFixup | secureKeepCaps | secureNoAmbientRaise
	secureLocks          = secureBits << 1
)

// New returns the credentials of a process that runs as one user and group throughout, with what of capabilities root is to
// have.
func New(uid, gid uint32, groups []uint32, bounding uint64) Creds {
	c := Creds{RUID: uid, EUID: uid, SUID: uid, FSUID: uid, RGID: gid, EGID: gid, SGID: gid, FSGID: gid, bounding: bounding}
	c.setGroups(groups)
	return c.Exec(&gains{uid: none, gid: none}, 0, false)
}

// shed takes and gives the capabilities that go with a change from old to the user ids of c; see capabilities(7), "Effect of
// user ID changes on capabilities".
func (c *Creds) shed(old *Creds) {
	root := func(c *Creds) bool { return c.RUID == 0 || c.EUID == 0 || c.SUID == 0 }
	if c.secure&secureNoFixup != 0 {
		return
	}
	if root(old) && !root(c) {
		if c.secure&secureKeepCaps == 0 {
			c.permitted, c.effective = 0, 0
		}
		c.ambient = 0
	}
	switch {
	case old.EUID == 0 && c.EUID != 0:
		c.effective = 0
	case old.EUID != 0 && c.EUID == 0:
		c.effective = c.permitted
	}
}

// WithoutNewPrivs are the same credentials of a process that gains no others by what it executes.
func (c Creds) WithoutNewPrivs() Creds {
	c.noNewPrivs = true
	return c
}

// Groups are the supplementary groups.
func (c *Creds) Groups() []uint32 {
	out := make([]uint32, len(c.groups)/4)
	for i := range out {
		out[i] = binary.LittleEndian.Uint32([]byte(c.groups[4*i:]))
	}
	return out
}

// setGroups keeps groups in order, as the kernel does.
func (c *Creds) setGroups(groups []uint32) {
	groups = slices.Sorted(slices.Values(groups))
	b := make([]byte, 0, 4*len(groups))
	for _, g := range groups {
		b = binary.LittleEndian.AppendUint32(b, g)
	}
	c.groups = string(b)
}

// fileCaps are the capabilities that go and come with the user for files.
const fileCaps = 1<<unix.CAP_CHOWN | 1<<unix.CAP_MKNOD | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_FSETID | 1<<unix.CAP_LINUX_IMMUTABLE | 1<<unix.CAP_MAC_OVERRIDE

// shedFiles is shed for setfsuid(2).
func (c *Creds) shedFiles(old *Creds) {
	switch {
	case c.secure&secureNoFixup != 0:
	case old.FSUID == 0 && c.FSUID != 0:
		c.effective &^= fileCaps
	case old.FSUID != 0 && c.FSUID == 0:
		c.effective |= c.permitted & fileCaps
	}
}

// can says whether a capability is effective.
func (c *Creds) can(capability uint) bool { return c.effective>>capability&1 != 0 }

// inGroup says whether a file of the group would be accessed as one of the own group.
func (c *Creds) inGroup(gid uint32) bool { return gid == c.FSGID || slices.Contains(c.Groups(), gid) }

// real are the credentials that access(2) goes by.
func (c Creds) real() Creds {
	c.FSUID, c.FSGID = c.RUID, c.RGID
	if c.secure&secureNoFixup == 0 {
		if c.effective = 0; c.RUID == 0 {
			c.effective = c.permitted
		}
	}
	return c
}

// permits says whether a file of an owner and mode may be accessed in the ways of want (R_OK, W_OK, X_OK), as far as the kernel
// lets root.
func (c *Creds) permits(want, uid, gid, mode uint32) bool {
	switch {
	case c.can(unix.CAP_DAC_OVERRIDE):
		return true
	case uid == c.FSUID:
		mode >>= 6
	case c.inGroup(gid):
		mode >>= 3
	}
	return want&7&^mode == 0
}

// SetGroups is setgroups(2).
func (c *Creds) SetGroups(groups []uint32) unix.Errno {
	if !c.can(unix.CAP_SETGID) {
		return unix.EPERM
	}
	c.setGroups(groups)
	return 0
}

// set is one of the two sets of ids.
type set struct {
	r, e, s, fs *uint32
	privileged  bool // may become any id
}

func (c *Creds) users() set {
	return set{&c.RUID, &c.EUID, &c.SUID, &c.FSUID, c.can(unix.CAP_SETUID)}
}
func (c *Creds) groupSet() set {
	return set{&c.RGID, &c.EGID, &c.SGID, &c.FSGID, c.can(unix.CAP_SETGID)}
}

// setID is setuid(2) and setgid(2).
func (s set) setID(id uint32) unix.Errno {
	switch {
	case id == none:
		return unix.EINVAL
	case s.privileged:
		*s.r, *s.s = id, id
	case id != *s.r && id != *s.s:
		return unix.EPERM
	}
	*s.e, *s.fs = id, id
	return 0
}

// setRE is setreuid(2) and setregid(2).
func (s set) setRE(r, e uint32) unix.Errno {
	if !s.privileged {
		if r != none && r != *s.r && r != *s.e {
			return unix.EPERM
		}
		if e != none && e != *s.r && e != *s.e && e != *s.s {
			return unix.EPERM
		}
	}
	old := *s.r
	if r != none {
		*s.r = r
	}
	if e != none {
		*s.e = e
	}
	if r != none || e != none && e != old {
		*s.s = *s.e
	}
	*s.fs = *s.e
	return 0
}

// setRES is setresuid(2) and setresgid(2).
func (s set) setRES(r, e, saved uint32) unix.Errno {
	stays := func(id uint32, are ...uint32) bool {
		return id == none || !slices.ContainsFunc(are, func(is uint32) bool { return is != id })
	}
	if stays(r, *s.r) && stays(e, *s.e, *s.fs) && stays(saved, *s.s) {
		return 0
	}
	if !s.privileged {
		for _, id := range []uint32{r, e, saved} {
			if id != none && id != *s.r && id != *s.e && id != *s.s {
				return unix.EPERM
			}
		}
	}
	for _, p := range []struct {
		to *uint32
		id uint32
	}{{s.r, r}, {s.e, e}, {s.s, saved}} {
		if p.id != none {
			*p.to = p.id
		}
	}
	*s.fs = *s.e
	return 0
}

// setFS is setfsuid(2) and setfsgid(2): it returns the old id whether or not it has changed anything.
func (s set) setFS(id uint32) uint32 {
	old := *s.fs
	if id != none && (s.privileged || id == *s.r || id == *s.e || id == *s.s || id == old) {
		*s.fs = id
	}
	return old
}

// gains are what a file gives to whoever executes it.
type gains struct {
	uid, gid               uint32 // its owners, for set-id bits, else none
	caps                   bool   // it has capabilities
	effective              bool   // and they are effective
	permitted, inheritable uint64
}

// Exec returns the credentials after executing a file, for a process with those inheritable capabilities. It gains
// nothing if it is unsafe. See capabilities(7), "Transformation of capabilities during execve()".
func (c *Creds) Exec(g *gains, inheritable uint64, unsafe bool) Creds {
	n := *c
	if g.uid != none {
		n.EUID = g.uid
	}
	if g.gid != none {
		n.EGID = g.gid
	}
	n.permitted = 0
	effective := g.effective
	if g.caps {
		n.permitted = c.bounding&g.permitted | inheritable&g.inheritable
	}
	mixed := g.caps && n.EUID == 0 && n.RUID != 0 // then only those of the file count
	if c.secure&secureNoRoot == 0 && !mixed && (n.RUID == 0 || n.EUID == 0) {
		n.permitted = c.bounding | inheritable
		effective = effective || n.EUID == 0
	}
	other := n.EUID != c.EUID || !c.inGroup(n.EGID) // so since Linux 6.16; before, than the real ones
	if unsafe = unsafe || c.noNewPrivs; unsafe && (other || n.permitted&^c.permitted != 0) {
		if c.noNewPrivs || !c.can(unix.CAP_SETUID) {
			n.EUID, n.EGID = n.RUID, n.RGID
		}
		n.permitted &= c.permitted
	}
	if g.caps || other {
		n.ambient = 0
	}
	n.permitted |= n.ambient
	if n.effective = n.ambient; effective {
		n.effective = n.permitted
	}
	n.SUID, n.FSUID, n.SGID, n.FSGID = n.EUID, n.EUID, n.EGID, n.EGID
	n.secure &^= secureKeepCaps
	return n
}
