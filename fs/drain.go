package fs

import (
	"time"

	"golang.org/x/sys/unix"
)

// The kernel forgets the requests that wait when a mount goes. Before Linux 6.16 those may be writes of pages that a process
// had mapped until it ended: the kernel copies the pages aside, and makes nobody wait for that the server gets them.

// drainPoll is how often Drain looks.
const drainPoll = 100 * time.Microsecond

// Drain returns when the kernel has no request for the server, and none is being answered, or else after limit: a mount that
// is in use may always have one.
func (s *Server) Drain(limit time.Duration) {
	select {
	case <-s.ready:
	default:
		return
	}
	for deadline := time.Now().Add(limit); s.pending() && time.Now().Before(deadline); {
		time.Sleep(drainPoll)
	}
}

// pending tells whether there are requests. Those that the kernel holds back because there are so many become visible when
// others have been answered. A worker that has just read one may not count as busy yet, but it will answer that.
func (s *Server) pending() bool {
	s.devMu.RLock()
	defer s.devMu.RUnlock()
	if s.closed {
		return false
	}
	fds := []unix.PollFd{{Fd: int32(s.dev), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	if err == unix.EINTR || n > 0 && fds[0].Revents&unix.POLLIN != 0 {
		return true
	}
	return s.crew.busy()
}
