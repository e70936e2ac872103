package ids

import (
	"encoding/binary"
	"errors"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// What a tracer asks of init, one question to a packet, each with one answer. Threads have their ids of the sandbox.
const (
	askOwner     = iota // of the file of a stat
	askExecuted         // a thread has executed a program; the answer is an acknowledgement
	askRefused          // a thread was refused to execute one; likewise
	askAccess           // whether an access(2) that the kernel grants is to be denied
	askDirectory        // who the process is that a directory of proc(5) is of
	askProcess          // who a process is
)

// question is one, as it travels.
type question struct {
	Kind  uint32
	TID   int32
	Dirfd int32
	Flags int32
	Path  uint64
	Mode  uint64 // of access
}

// reply is the answer to one.
type reply struct {
	OK       uint32
	UID, GID uint32
	IDs      [8]uint32 // as in a status file: see proc_pid_status(5)
}

// answers is the tracer's end.
type answers struct {
	mu   sync.Mutex // from a question to its answer
	conn int
}

func (a *answers) ask(q *question) (r reply) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, _ := binary.Append(nil, binary.NativeEndian, q)
	if _, err := unix.Write(a.conn, b); err != nil {
		return reply{}
	}
	b = make([]byte, binary.Size(r))
	if n, err := retry(func() (int, error) { return unix.Read(a.conn, b) }); n != len(b) || err != nil {
		return reply{}
	}
	_, _ = binary.Decode(b, binary.NativeEndian, &r)
	return r
}

// Answer answers the questions of a tracer that come over a connection, which it closes at their end.
func (s *Server) Answer(conn int) {
	defer unix.Close(conn)
	var q question
	b := make([]byte, binary.Size(q))
	for {
		n, err := retry(func() (int, error) { return unix.Read(conn, b) })
		if n != len(b) || err != nil {
			return
		}
		_, _ = binary.Decode(b, binary.NativeEndian, &q)
		out, _ := binary.Append(nil, binary.NativeEndian, s.reply(&q))
		if _, err := unix.Write(conn, out); err != nil {
			return
		}
	}
}

func (s *Server) reply(q *question) (r reply) {
	tid := int(q.TID)
	switch q.Kind {
	case askExecuted:
		s.executed(tid)
	case askRefused:
		s.execs.take(s.process(tid))
	case askProcess:
		r = s.whoIs(tid)
	case askOwner, askAccess, askDirectory:
		c := stat{dirfd: int(q.Dirfd), path: q.Path, flags: int(q.Flags)}
		fd, err := c.open(s.resolver, tid)
		if err != nil {
			return r
		}
		defer unix.Close(fd)
		switch q.Kind {
		case askAccess:
			if s.denies(tid, fd, q) {
				r.OK = 1
			}
			return r
		case askDirectory:
			return s.whoIs(processOf(fd))
		}
		uid, gid, ok, err := s.files.Owner(fd)
		if err == nil && ok {
			r.OK, r.UID, r.GID = 1, uid, gid
		}
	}
	return r
}

// process is the process of a thread, 0 when that is gone.
func (s *Server) process(tid int) int {
	n, _ := strconv.Atoi(s.status(tid, "Tgid:"))
	return n
}

// retry makes a call again when a signal has interrupted it.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
