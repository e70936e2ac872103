package ids

import (
	"encoding/binary"
	"strconv"

	"golang.org/x/sys/unix"
)

// capData is struct __user_cap_data_struct, once or twice: three words for each 32 capabilities.
const capData = 12

// capHeader reads struct __user_cap_header_struct and returns how many capData follow; 0 for a probe of the version or for
// another process, which the kernel answers.
func capHeader(c *call) (words int, e unix.Errno) {
	var b [8]byte
	if n, e := readMemory(c.tid(), c.args[0], b[:]); e != 0 || n != len(b) {
		return 0, unix.EFAULT
	}
	if pid := binary.LittleEndian.Uint32(b[4:]); c.args[1] == 0 || pid != 0 && pid != c.pid {
		return 0, 0
	}
	switch binary.LittleEndian.Uint32(b[:]) {
	case unix.LINUX_CAPABILITY_VERSION_1:
		return 1, 0
	case unix.LINUX_CAPABILITY_VERSION_2, unix.LINUX_CAPABILITY_VERSION_3:
		return 2, 0
	}
	return 0, 0
}

// capGet is capget(2), for base credentials as well: who has them again may have fewer real capabilities than before.
func capGet(s *Server, c *call) (int64, unix.Errno) {
	creds, err := s.table.Get(c.tid())
	if err != nil {
		return 0, pass
	}
	words, e := capHeader(c)
	if e != 0 || words == 0 {
		return 0, pass
	}
	out := make([]byte, 0, 2*capData)
	real := s.realCaps(c.tid(), "CapPrm:")
	effective, permitted := creds.effective&real, creds.permitted&real
	inheritable := s.realCaps(c.tid(), "CapInh:")
	for w := range words {
		for _, set := range []uint64{effective, permitted, inheritable} {
			out = binary.LittleEndian.AppendUint32(out, uint32(set>>(32*w)))
		}
	}
	if !valid(c.listener, c.notification.id) {
		return 0, unix.ESRCH
	}
	return 0, writeMemory(c.tid(), c.args[1], out)
}

func (s *Server) realCaps(tid int, field string) uint64 {
	n, _ := strconv.ParseUint(s.status(tid, field), 16, 64)
	return n
}

// capSet is capset(2). The kernel then does the same to the real capabilities of root.
func capSet(s *Server, c *call) (int64, unix.Errno) {
	words, e := capHeader(c)
	if e != 0 || words == 0 {
		return 0, pass
	}
	creds, err := s.table.Get(c.tid())
	if err != nil {
		return 0, errno(err)
	}
	data := make([]byte, words*capData)
	if n, e := readMemory(c.tid(), c.args[1], data); e != 0 || n != len(data) {
		return 0, unix.EFAULT
	}
	var effective, permitted, inheritable uint64
	for w := range words {
		effective |= uint64(binary.LittleEndian.Uint32(data[w*capData:])) << (32 * w)
		permitted |= uint64(binary.LittleEndian.Uint32(data[w*capData+4:])) << (32 * w)
		inheritable |= uint64(binary.LittleEndian.Uint32(data[w*capData+8:])) << (32 * w)
	}
	if permitted&^creds.permitted != 0 || effective&^permitted != 0 || !s.mayCapSet(c, &creds, permitted, inheritable) {
		return 0, unix.EPERM
	}
	now := creds
	now.permitted, now.effective = permitted, effective
	now.ambient &= permitted & inheritable
	if creds.EUID != 0 && inheritable == s.realCaps(c.tid(), "CapInh:") {
		// It has the real ones of root, which it could not get back as root.
		return 0, s.set(c, creds, now)
	}
	return 0, s.setAndPass(c, creds, now)
}

// mayCapSet says whether the caller may, and the kernel will, do it, by the rules of capset(2): nothing may have changed if it
// does not.
func (s *Server) mayCapSet(c *call, creds *Creds, permitted, inheritable uint64) bool {
	real, old := s.realCaps(c.tid(), "CapPrm:"), s.realCaps(c.tid(), "CapInh:")
	more := real & creds.permitted
	if s.maySetPCap(c, creds) {
		more = ^uint64(0)
	}
	return permitted&^real == 0 && inheritable&^(old|more) == 0 && inheritable&^(old|s.realCaps(c.tid(), "CapBnd:")) == 0
}

// processControl is prctl(2) for what is emulated of it.
func processControl(s *Server, c *call) (int64, unix.Errno) {
	creds, err := s.table.Get(c.tid())
	if err != nil {
		return 0, pass
	}
	now, value, more := creds, c.args[1], c.args[2]|c.args[3]|c.args[4]
	switch uint32(c.args[0]) {
	case unix.PR_SET_KEEPCAPS:
		if value <= 1 && creds.secure&(secureKeepCaps<<1) == 0 {
			now.secure = creds.secure&^secureKeepCaps | secureKeepCaps*uint32(value)
		}
	case unix.PR_SET_NO_NEW_PRIVS:
		if value == 1 && more == 0 {
			now.noNewPrivs = true
		}
	case unix.PR_GET_NO_NEW_PRIVS:
		// The kernel's own may come from a tracer.
		if value|more == 0 && !creds.noNewPrivs {
			return 0, 0
		}
	case unix.PR_SET_SECUREBITS:
		// Higher bits, which are not about capabilities, are the kernel's, and anybody's.
		want, locked := uint32(value)&secureAll, creds.secure&secureLocks
		privileged := want != creds.secure || value == uint64(want)
		if privileged && !s.maySetPCap(c, &creds) || locked>>1&(creds.secure^want) != 0 || locked&^want != 0 {
			return 0, unix.EPERM
		}
		now.secure = want
	case unix.PR_CAPBSET_DROP:
		if !s.maySetPCap(c, &creds) {
			return 0, unix.EPERM
		}
		if value < 64 {
			now.bounding &^= 1 << value
		}
	case unix.PR_CAP_AMBIENT:
		if c.args[3]|c.args[4] == 0 {
			return s.ambient(c, creds)
		}
	}
	return 0, s.setAndPass(c, creds, now)
}

// maySetPCap says whether a thread has CAP_SETPCAP, as far as the kernel is concerned, too.
func (s *Server) maySetPCap(c *call, creds *Creds) bool {
	return creds.can(unix.CAP_SETPCAP) && s.realCaps(c.tid(), "CapEff:")>>unix.CAP_SETPCAP&1 != 0
}

// ambient is prctl(2) with PR_CAP_AMBIENT. The kernel then does the same to the real capabilities.
func (s *Server) ambient(c *call, creds Creds) (int64, unix.Errno) {
	now, capability := creds, c.args[2]
	if c.args[1] == unix.PR_CAP_AMBIENT_CLEAR_ALL {
		if capability == 0 {
			now.ambient = 0
		}
		return 0, s.setAndPass(c, creds, now)
	}
	if capability >= 64 {
		return 0, pass
	}
	bit := uint64(1) << capability
	switch c.args[1] {
	case unix.PR_CAP_AMBIENT_IS_SET:
		if creds.ambient&bit == 0 && s.realCaps(c.tid(), "CapAmb:")&bit != 0 {
			return 0, 0
		}
	case unix.PR_CAP_AMBIENT_LOWER:
		now.ambient &^= bit
	case unix.PR_CAP_AMBIENT_RAISE:
		if creds.permitted&s.realCaps(c.tid(), "CapPrm:")&s.realCaps(c.tid(), "CapInh:")&bit == 0 || creds.secure&secureNoAmbientRaise != 0 {
			return 0, unix.EPERM
		}
		now.ambient |= bit
	}
	return 0, s.setAndPass(c, creds, now)
}
