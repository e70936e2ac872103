package fs

import (
	"fmt"
	"os"
	"strings"
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

// unmountDrain is how long Unmount waits for a server, which may not answer at all any more.
const unmountDrain = time.Second

// drainMount returns when the kernel has no request for the server of a mount, or else after unmountDrain. It sends none
// itself. Where the kernel does not show how many there are, it returns at once.
func drainMount(dir string) {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, dir, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &st) != nil {
		return
	}
	// The name of a connection is the number of the device as the kernel itself has it.
	waiting := fmt.Sprintf("/sys/fs/fuse/connections/%d/waiting", st.Dev_major<<20|st.Dev_minor)
	for deadline := time.Now().Add(unmountDrain); time.Now().Before(deadline); time.Sleep(drainPoll) {
		n, err := os.ReadFile(waiting)
		if err != nil || strings.TrimSpace(string(n)) == "0" {
			return
		}
	}
}
