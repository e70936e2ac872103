package ids

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// whoIs tells who a process is, if that is another than the kernel tells.
func (s *Server) whoIs(pid int) (r reply) {
	creds, original, err := s.table.get(pid)
	if pid <= 0 || err != nil || original {
		return r
	}
	return reply{1, creds.EUID, creds.EGID, [8]uint32{creds.RUID, creds.EUID, creds.SUID, creds.FSUID, creds.RGID, creds.EGID, creds.SGID, creds.FSGID}}
}

// processOf is the process that an open directory of proc(5) is of, which belongs to its user; 0: none.
func processOf(fd int) int {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode != unix.S_IFDIR|0o555 || !onProc(fd) {
		return 0
	}
	name, err := os.Readlink(self(fd))
	if err != nil || !strings.Contains(name, "/proc/") {
		return 0
	}
	const mount = "/proc/" // in any root
	number, _, _ := strings.Cut(name[strings.LastIndex(name, mount)+len(mount):], "/")
	n, _ := strconv.Atoi(number)
	return n
}

// identify shows in what a thread has read of a status file who the process is; see proc_pid_status(5).
func (t *tracer) identify(tid int, th *thread) {
	const begin, longest = "Name:\t", 4096
	var after registers
	if !t.foreign.view.anybody() || after.read(tid) != nil || after.result() < int64(len(begin)) {
		return
	}
	at, room, n := th.call.args()[1], th.call.args()[2], min(after.result(), longest)
	var start [len(begin)]byte
	if _, e := readMemory(tid, at, start[:]); e != 0 || string(start[:]) != begin {
		return
	}
	status := make([]byte, n)
	if got, e := readMemory(tid, at, status); e != 0 || got != len(status) {
		return
	}
	pid := 0
	if _, rest, ok := bytes.Cut(status, []byte("\nPid:\t")); ok {
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		pid, _ = strconv.Atoi(string(line))
	}
	r := t.answers.ask(&question{Kind: askProcess, TID: int32(pid)})
	if r.OK == 0 {
		return
	}
	if status = withIDs(status, r.IDs, int(min(room, longest))); status != nil && writeMemory(tid, at, status) == 0 {
		after.setResult(int64(len(status)))
		_ = after.write(tid)
	}
}

// withIDs puts ids into the beginning of a status file, nil if there is no room for them. Where all of the room was filled before, it is
// filled again: a reader would take less for the end of the file. Of the lines those go first that tell the numbers in pid namespaces.
func withIDs(status []byte, ids [8]uint32, room int) []byte {
	full := len(status) == room
	lines := bytes.SplitAfter(status, []byte("\n"))
	size, groups := 0, -1
	for i, line := range lines {
		var four []uint32
		switch {
		case bytes.HasPrefix(line, []byte("Uid:\t")):
			four = ids[:4]
		case bytes.HasPrefix(line, []byte("Gid:\t")):
			four = ids[4:]
		case bytes.HasPrefix(line, []byte("Groups:\t")) && bytes.HasSuffix(line, []byte("\n")):
			groups = i
		}
		if four != nil {
			lines[i] = fmt.Appendf(nil, "%s\t%d\t%d\t%d\t%d\n", line[:len("Uid:")], four[0], four[1], four[2], four[3])
		}
		size += len(lines[i])
	}
	for i, line := range lines {
		if size > room && bytes.HasPrefix(line, []byte("NS")) && bytes.HasSuffix(line, []byte("\n")) {
			size -= len(line)
			lines[i] = nil
		}
	}
	if size > room || full && size < room && groups < 0 {
		return nil
	}
	if full && size < room {
		line := bytes.TrimSuffix(lines[groups], []byte("\n"))
		lines[groups] = append(append(line[:len(line):len(line)], bytes.Repeat([]byte(" "), room-size)...), '\n')
	}
	return bytes.Join(lines, nil)
}
