package ids

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// handlers are the calls that are answered, by name. narrow marks those that have 16-bit forms on old architectures.
var handlers = map[string]known{
	"setuid":    {handler: change(func(c *Creds, a *call) unix.Errno { return c.users().setID(a.id(0)) }), narrow: true},
	"setgid":    {handler: change(func(c *Creds, a *call) unix.Errno { return c.groupSet().setID(a.id(0)) }), narrow: true},
	"setreuid":  {handler: change(func(c *Creds, a *call) unix.Errno { return c.users().setRE(a.id(0), a.id(1)) }), narrow: true},
	"setregid":  {handler: change(func(c *Creds, a *call) unix.Errno { return c.groupSet().setRE(a.id(0), a.id(1)) }), narrow: true},
	"setresuid": {handler: change(func(c *Creds, a *call) unix.Errno { return c.users().setRES(a.id(0), a.id(1), a.id(2)) }), narrow: true},
	"setresgid": {handler: change(func(c *Creds, a *call) unix.Errno { return c.groupSet().setRES(a.id(0), a.id(1), a.id(2)) }), narrow: true},
	"setgroups": {handler: setGroups, narrow: true},
	"setfsuid":  {handler: setFS((*Creds).users), narrow: true},
	"setfsgid":  {handler: setFS((*Creds).groupSet), narrow: true},

	"getuid":    {handler: show(func(c *Creds) uint32 { return c.RUID }), narrow: true},
	"geteuid":   {handler: show(func(c *Creds) uint32 { return c.EUID }), narrow: true},
	"getgid":    {handler: show(func(c *Creds) uint32 { return c.RGID }), narrow: true},
	"getegid":   {handler: show(func(c *Creds) uint32 { return c.EGID }), narrow: true},
	"getresuid": {handler: showThree((*Creds).users), narrow: true},
	"getresgid": {handler: showThree((*Creds).groupSet), narrow: true},
	"getgroups": {handler: getGroups, narrow: true},

	"chown":    {handler: chownPath(0, 0, false), slow: true, narrow: true},
	"lchown":   {handler: chownPath(0, unix.AT_SYMLINK_NOFOLLOW, false), slow: true, narrow: true},
	"fchown":   {handler: fchown, slow: true, narrow: true},
	"fchownat": {handler: chownPath(1, 0, true), slow: true},
	"mknod":    {handler: mknod(0), slow: true},
	"mknodat":  {handler: mknod(1), slow: true},

	"chmod": {handler: chmod(0, -1), slow: true}, "fchmod": {handler: chmod(-1, -1), slow: true},
	"fchmodat": {handler: chmod(1, -1), slow: true}, "fchmodat2": {handler: chmod(1, 3), slow: true},

	"execve":     {handler: execute(0), slow: true, passes: executesFreely(0)},
	"execveat":   {handler: execute(1), slow: true, passes: executesFreely(1)},
	"getsockopt": {handler: peerCredentials, slow: true},
	"capget":     {handler: capGet},
	"capset":     {handler: capSet},
	"prctl":      {handler: processControl},

	"getrlimit": {handler: unlimited(-1, 1)}, "ugetrlimit": {handler: unlimited(-1, 1)}, "setrlimit": {handler: unlimited(-1, -1)},
	"prlimit64": {handler: unlimited(0, 3)},
}

// change changes credentials.
func change(f func(*Creds, *call) unix.Errno) handler {
	return func(s *Server, c *call) (int64, unix.Errno) {
		creds, err := s.table.Get(c.tid())
		if err != nil {
			return 0, errno(err)
		}
		now := creds
		if e := f(&now, c); e != 0 {
			return 0, e
		}
		now.shed(&creds)
		return 0, s.set(c, creds, now)
	}
}

// set makes the new credentials of the caller known before its call returns.
func (s *Server) set(c *call, old, now Creds) unix.Errno {
	if old == now {
		return 0
	}
	if !valid(c.listener, c.notification.id) {
		return unix.ESRCH
	}
	if err := s.table.Set(c.tid(), now); err != nil {
		return unix.EAGAIN
	}
	return 0
}

// setAndPass is set before the kernel goes on.
func (s *Server) setAndPass(c *call, old, now Creds) unix.Errno {
	if e := s.set(c, old, now); e != 0 {
		return e
	}
	return pass
}

func setFS(which func(*Creds) set) handler {
	return func(s *Server, c *call) (int64, unix.Errno) {
		creds, err := s.table.Get(c.tid())
		if err != nil {
			return 0, errno(err)
		}
		now := creds
		old := which(&now).setFS(c.id(0))
		now.shedFiles(&creds)
		s.set(c, creds, now) // there is no error to report
		return int64(old), 0
	}
}

func setGroups(s *Server, c *call) (int64, unix.Errno) {
	n := int(int32(c.args[0]))
	if n < 0 || n > 65536 {
		return 0, unix.EINVAL
	}
	buf := make([]byte, n*c.width())
	if got, e := readMemory(c.tid(), c.args[1], buf); e != 0 || got != len(buf) {
		return 0, unix.EFAULT
	}
	groups := make([]uint32, n)
	for i := range groups {
		if c.narrow {
			groups[i] = uint32(binary.LittleEndian.Uint16(buf[2*i:]))
		} else {
			groups[i] = binary.LittleEndian.Uint32(buf[4*i:])
		}
	}
	return change(func(creds *Creds, _ *call) unix.Errno { return creds.SetGroups(groups) })(s, c)
}

// show shows one id. For a process that never changed its own the kernel knows it.
func show(f func(*Creds) uint32) handler {
	return func(s *Server, c *call) (int64, unix.Errno) {
		creds, original, err := s.table.get(c.tid())
		if err != nil || original {
			return 0, pass
		}
		id := f(&creds)
		if c.narrow {
			id = min(id, 65534)
		}
		return int64(id), 0
	}
}

func showThree(which func(*Creds) set) handler {
	return func(s *Server, c *call) (int64, unix.Errno) {
		creds, original, err := s.table.get(c.tid())
		if err != nil || original {
			return 0, pass
		}
		ids := which(&creds)
		if !valid(c.listener, c.notification.id) {
			return 0, unix.ESRCH
		}
		for i, id := range []uint32{*ids.r, *ids.e, *ids.s} {
			if e := c.putIDs(c.args[i], id); e != 0 {
				return 0, e
			}
		}
		return 0, 0
	}
}

// getGroups always answers: the kernel would show the groups of the user on the host, as unknown ones.
func getGroups(s *Server, c *call) (int64, unix.Errno) {
	creds, err := s.table.Get(c.tid())
	if err != nil {
		return 0, errno(err)
	}
	groups := creds.Groups()
	room := int(int32(c.args[0]))
	switch {
	case room < 0:
		return 0, unix.EINVAL
	case room == 0:
		return int64(len(groups)), 0
	case room < len(groups):
		return 0, unix.EINVAL
	}
	if !valid(c.listener, c.notification.id) {
		return 0, unix.ESRCH
	}
	if e := c.putIDs(c.args[1], groups...); e != 0 {
		return 0, e
	}
	return int64(len(groups)), 0
}
