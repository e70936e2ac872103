package ids

import (
	"encoding/binary"
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// Server answers the calls of the processes of one sandbox. It lives in init.
type Server struct {
	table    *Table
	files    Files
	resolver *resolver
	opt      Options

	tables sync.Map // architecture -> map[int32]known
	execs  execs
}

// Options of a Server.
type Options struct {
	Numbers func(audit uint32) map[string]uint32 // the system calls of an architecture (AUDIT_ARCH_*)
	After   func()                               // called after each answer; may be nil
	// Trace has a thread traced before it executes a program, for its sight or for its credentials only, and says whether it is;
	// see the function Trace.
	Trace func(tid int, sight Sight) bool
}

// handler answers one call: a value, or an error number, or (pass) that the kernel is to go on with it.
type handler func(s *Server, c *call) (val int64, e unix.Errno)

// pass is not an error: the kernel executes the call.
const pass = unix.Errno(0xffff)

// call is a call under way.
type call struct {
	notification
	listener int
	narrow   bool // ids are 16 bits wide, as in the oldest calls of 32-bit architectures
}

func (c *call) tid() int { return int(c.pid) }

// id reads an argument that is a user or group.
func (c *call) id(arg int) uint32 {
	if c.narrow {
		if v := uint16(c.args[arg]); v != 0xffff {
			return uint32(v)
		}
		return none
	}
	return uint32(c.args[arg])
}

// width is the size of an id in memory.
func (c *call) width() int {
	if c.narrow {
		return 2
	}
	return 4
}

func (c *call) putIDs(at uint64, ids ...uint32) unix.Errno {
	var buf []byte
	for _, id := range ids {
		if c.narrow {
			buf = binary.LittleEndian.AppendUint16(buf, uint16(min(id, 65534)))
		} else {
			buf = binary.LittleEndian.AppendUint32(buf, id)
		}
	}
	return writeMemory(c.tid(), at, buf)
}

// NewServer makes a server.
func NewServer(table *Table, files Files, opt Options) (*Server, error) {
	r, err := newResolver()
	if err != nil {
		return nil, err
	}
	table.proc = r.proc
	return &Server{table: table, files: files, resolver: r, opt: opt}, nil
}

// Serve answers the calls that come over a listener, which it closes, until no process is left that could make one.
func (s *Server) Serve(listener int) {
	defer unix.Close(listener)
	wakeOnSameCPU(listener)
	for {
		c := &call{listener: listener}
		if !receive(listener, &c.notification) {
			return
		}
		switch k := s.lookup(c); {
		case k.passes != nil && k.passes(s, c):
			s.serve(passOn, c)
		case k.slow:
			go s.serve(k.handler, c)
		default:
			s.serve(k.handler, c)
		}
	}
}

func (s *Server) serve(h handler, c *call) {
	r := response{id: c.notification.id}
	val, e := h(s, c)
	switch {
	case e == pass:
		r.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	case e != 0:
		r.err = -int32(e)
	default:
		r.val = val
	}
	answer(c.listener, &r)
	if s.opt.After != nil {
		s.opt.After()
	}
}

// passOn has the kernel execute a call.
func passOn(*Server, *call) (int64, unix.Errno) { return 0, pass }

// lookup finds what is known of a call.
func (s *Server) lookup(c *call) known {
	entry, ok := s.tables.Load(c.arch)
	if !ok {
		entry, _ = s.tables.LoadOrStore(c.arch, s.build(c.arch))
	}
	found, ok := entry.(map[int32]known)[c.nr]
	if !ok {
		return known{handler: passOn}
	}
	c.narrow = found.narrow
	return found
}

// known is a call that is answered here.
type known struct {
	handler
	slow   bool                      // may wait for the server of the root
	passes func(*Server, *call) bool // whether there is nothing to do for it, which is quick to find out; may be nil
	narrow bool
}

// build makes the table of an architecture.
func (s *Server) build(audit uint32) map[int32]known {
	numbers := s.opt.Numbers(audit)
	_, old := numbers["setuid32"] // then the calls without 32 are the narrow ones
	m := map[int32]known{}
	for name, k := range handlers {
		if nr, ok := numbers[name]; ok {
			k.narrow = old && k.narrow
			m[int32(nr)] = k
		}
		if nr, ok := numbers[name+"32"]; ok {
			k.narrow = false
			m[int32(nr)] = k
		}
	}
	return m
}

// Calls are the names of all calls that the filter has to hand over without conditions.
func Calls() []string {
	var out []string
	for name := range handlers {
		switch name {
		case "chmod", "fchmod", "fchmodat", "fchmodat2", "mknod", "mknodat", "getsockopt", "prctl", "getrlimit", "ugetrlimit", "setrlimit", "prlimit64":
		default:
			out = append(out, name, name+"32")
		}
	}
	return out
}

// errno is the error number of an error.
func errno(err error) unix.Errno {
	var e unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e
	}
	return unix.EIO
}
