package ids

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// unlimited is getrlimit(2), setrlimit(2) and prlimit(2) for the limit that holds credentials: there seems to be none, and a
// change has no effect, as it never has. pid and old are the numbers of arguments, -1: there is none.
func unlimited(pid, old int) handler {
	return func(s *Server, c *call) (int64, unix.Errno) {
		if pid >= 0 && c.args[pid] != 0 && s.process(int(int32(c.args[pid]))) == 0 {
			return 0, unix.ESRCH
		}
		if old < 0 || c.args[old] == 0 {
			return 0, 0
		}
		width := 8
		if pid < 0 && c.arch != auditArch {
			width = 4
		}
		if !valid(c.listener, c.notification.id) {
			return 0, unix.ESRCH
		}
		return 0, writeMemory(c.tid(), c.args[old], bytes.Repeat([]byte{0xff}, 2*width))
	}
}
