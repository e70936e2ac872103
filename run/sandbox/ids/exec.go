package ids

import (
	"encoding/binary"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// execute is execve(2) and execveat(2): the kernel goes on, and once it has executed the file the credentials change as for
// that.
func execute(first int) handler {
	return func(s *Server, c *call) (int64, unix.Errno) {
		path, e := readString(c.tid(), c.args[first])
		if e != 0 {
			return 0, pass
		}
		creds, original, err := s.table.get(c.tid())
		if err != nil {
			return 0, pass
		}
		sight := s.sight(c, first, path, !original)
		var changes *pendingExec
		if !original || s.maySetID(c, first, path) {
			changes = s.changes(c, first, path, creds)
		}
		if !valid(c.listener, c.notification.id) {
			return 0, pass
		}
		s.execs.begin(s, c.tid(), changes)
		if sight == Plain && changes == nil || s.opt.Trace(c.tid(), sight) || changes == nil {
			return 0, pass
		}
		// Somebody else traces it. The kernel, too, gives nothing to such a program.
		s.execs.begin(s, c.tid(), nil)
		return 0, s.setAndPass(c, creds, creds.Exec(&changes.gains, s.realCaps(c.tid(), "CapInh:"), true))
	}
}

// changes says what executing a file does to the credentials; nil: nothing.
func (s *Server) changes(c *call, first int, path string, creds Creds) *pendingExec {
	dirfd, flags := unix.AT_FDCWD, 0
	if first == 1 {
		dirfd, flags = int(int32(c.args[0])), int(int32(c.args[4]))
	}
	if path == "" && flags&unix.AT_EMPTY_PATH == 0 {
		return nil
	}
	fd, err := s.resolver.open(c.tid(), dirfd, path, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	p := &pendingExec{old: creds}
	if !s.look(fd, p) || creds.Exec(&p.gains, s.realCaps(c.tid(), "CapInh:"), false) == creds {
		return nil // it cannot be executed, or is any program
	}
	return p
}

// execs are programs that the kernel is to execute, or not, and that change credentials if it does.
type execs struct {
	count atomic.Int32 // of list, to look without a lock

	mu   sync.Mutex
	list map[int]*pendingExec // by process
	room int                  // how many list may have before it is cleared of those that are gone
}

type pendingExec struct {
	old   Creds
	gains gains
	file  unix.Stat_t // that gives them
}

// begin notes what the process of a thread is about to execute; nil: nothing of interest.
func (x *execs) begin(s *Server, tid int, p *pendingExec) {
	if p == nil && x.count.Load() == 0 {
		return
	}
	process := s.process(tid)
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.list, process)
	if p != nil {
		if x.list == nil {
			x.list = make(map[int]*pendingExec)
		}
		if len(x.list) >= x.room {
			// Processes that ended meanwhile have left theirs behind.
			maps.DeleteFunc(x.list, func(process int, _ *pendingExec) bool { return s.process(process) == 0 })
			x.room = max(2*len(x.list), 64)
		}
		x.list[process] = p
	}
	x.count.Store(int32(len(x.list)))
}

// take returns what a process was about to execute, once.
func (x *execs) take(process int) *pendingExec {
	if x.count.Load() == 0 {
		return nil
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.list[process]
	delete(x.list, process)
	x.count.Store(int32(len(x.list)))
	return p
}

// executed gives a process that has executed a program, and is stopped before it runs, the credentials for that. It may have executed
// another file than the one that was looked at before.
func (s *Server) executed(process int) {
	p := s.execs.take(process)
	if p == nil {
		return
	}
	creds, err := s.table.Get(process)
	if err != nil || creds != p.old {
		return
	}
	var exe unix.Stat_t
	err = unix.Fstatat(s.resolver.proc, strconv.Itoa(process)+"/exe", &exe, 0)
	if err != nil || exe.Dev != p.file.Dev || exe.Ino != p.file.Ino {
		p.gains = gains{uid: none, gid: none}
	}
	_ = s.table.Set(process, creds.Exec(&p.gains, s.realCaps(process, "CapInh:"), false))
}

func readWhole(dir int, file string) string {
	fd, err := unix.Openat(dir, file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(buf[:n]))
}

// executesFreely says whether there is nothing to do for a program: most are of that kind, and have to wait for no other thread.
func executesFreely(first int) func(*Server, *call) bool {
	return func(s *Server, c *call) bool {
		if _, original, err := s.table.get(c.tid()); err != nil || !original {
			return false
		}
		path, e := readString(c.tid(), c.args[first])
		return e != 0 || s.sight(c, first, path, false) == Plain && !s.maySetID(c, first, path)
	}
}

// maySetID says whether a file may have a set-id bit, as few have. It only looks, and leaves ways that are not plain to look.
func (s *Server) maySetID(c *call, first int, path string) bool {
	from, how := "/cwd", unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH}
	switch {
	case strings.HasPrefix(path, "/"):
		from, how.Resolve = "/root", unix.RESOLVE_IN_ROOT
	case first == 1 && int32(c.args[0]) != unix.AT_FDCWD:
		from = "/fd/" + strconv.Itoa(int(int32(c.args[0])))
	}
	fd, err := unix.Openat(s.resolver.proc, strconv.Itoa(c.tid())+from, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if path != "" {
		file, err := unix.Openat2(fd, path, &how)
		if err != nil {
			return !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR)
		}
		defer unix.Close(file)
		fd = file
	}
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0
}

// sight says whether a program has to be traced, for what it is to see.
func (s *Server) sight(c *call, first int, path string, switched bool) Sight {
	if !MayReadOwners(path) {
		return Plain
	}
	sight := SightOf(path, c.arguments(c.args[first+1]), switched)
	if sight == Processes && !s.table.anybody() {
		return Plain // all processes are who they seem to be
	}
	return sight
}

// arguments reads the beginning of an array of strings from the caller.
func (c *call) arguments(at uint64) []string {
	var pointers [8 * 256]byte
	n, e := readMemory(c.tid(), at, pointers[:])
	if e != 0 {
		return nil
	}
	width := 8
	if c.arch != auditArch {
		width = 4
	}
	var out []string
	for i := 0; i+width <= n; i += width {
		p := uint64(binary.NativeEndian.Uint32(pointers[i:]))
		if width == 8 {
			p = binary.NativeEndian.Uint64(pointers[i:])
		}
		if p == 0 {
			break
		}
		arg, e := readString(c.tid(), p)
		if e != 0 {
			break
		}
		out = append(out, arg)
	}
	return out
}

// look finds out what executing a file gives. It is false for what is no executable file.
func (s *Server) look(fd int, p *pendingExec) bool {
	p.gains = gains{uid: none, gid: none}
	if err := unix.Fstat(fd, &p.file); err != nil || p.file.Mode&unix.S_IFMT != unix.S_IFREG || p.file.Mode&0o111 == 0 {
		return false
	}
	const setGID = unix.S_ISGID | 0o010 // without the x it once meant mandatory locking
	user, group := p.file.Mode&unix.S_ISUID != 0, p.file.Mode&setGID == setGID
	caps := capabilities(fd, &p.gains)
	if !user && !group && !caps {
		return true
	}
	if isScript(fd) {
		p.gains = gains{uid: none, gid: none}
		return true
	}
	u, g, recorded, err := s.files.Owner(fd)
	if err != nil || !recorded {
		return true
	}
	if user {
		p.gains.uid = u
	}
	if group {
		p.gains.gid = g
	}
	return true
}

// capabilities reads the capabilities of a file, and says whether it has some; see capabilities(7), "File capabilities".
func capabilities(fd int, g *gains) bool {
	const effective, sizeOf2 = 1, 20 // bytes of struct vfs_cap_data; the root of a third version is the sandbox's
	var b [sizeOf2 + 4]byte
	if n, err := unix.Getxattr(self(fd), "security.capability", b[:]); err != nil || n < sizeOf2 {
		return false
	}
	word := func(n int) uint64 { return uint64(binary.LittleEndian.Uint32(b[4*n:])) }
	g.caps, g.effective = true, word(0)&effective != 0
	g.permitted, g.inheritable = word(1)|word(3)<<32, word(2)|word(4)<<32
	return true
}

// isScript says whether an interpreter is executed rather than the file.
func isScript(fd int) bool {
	f, err := unix.Open(self(fd), unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(f)
	var magic [2]byte
	n, err := unix.Pread(f, magic[:], 0)
	return err == nil && n == 2 && magic == [2]byte{'#', '!'}
}

// status reads a field of /proc/TID/status, empty when the thread is gone.
func (s *Server) status(tid int, field string) string {
	return statusField(s.resolver.proc, strconv.Itoa(tid)+"/status", field)
}

// statusField reads a field of a status file; see proc_pid_status(5).
func statusField(dir int, file, field string) string {
	for line := range strings.Lines(readWhole(dir, file)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// umask is the mask of a process for new files.
func (s *Server) umask(tid int) (uint32, error) {
	n, err := strconv.ParseUint(s.status(tid, "Umask:"), 8, 32)
	if err != nil {
		return 0, unix.ESRCH
	}
	return uint32(n), nil
}

// peer says who a process at the other end of a socket is; ok is false when the kernel knows. One that is gone may have been anybody,
// and its number may be another's.
func (s *Server) peer(sock, pid int) (uid, gid uint32, ok bool) {
	if !s.table.anybody() {
		return 0, 0, false
	}
	const nobody = 65534
	creds, original, err := s.table.get(pid)
	if err != nil || !connected(sock) {
		return nobody, nobody, true
	}
	return creds.EUID, creds.EGID, !original
}

// connected says whether the process at the other end of a socket lives, as far as the kernel (since Linux 6.5) tells.
func connected(sock int) bool {
	pidfd, err := unix.GetsockoptInt(sock, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return true
	}
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n == 0
}

// peerCredentials is getsockopt(2) for SO_PEERCRED: who is at the other end of a unix socket, now.
func peerCredentials(s *Server, c *call) (int64, unix.Errno) {
	tgid, err := strconv.Atoi(s.status(c.tid(), "Tgid:"))
	if err != nil {
		return 0, pass
	}
	pidfd, err := unix.PidfdOpen(tgid, 0)
	if err != nil {
		return 0, pass
	}
	defer unix.Close(pidfd)
	sock, err := unix.PidfdGetfd(pidfd, int(int32(c.args[0])), 0)
	if err != nil {
		return 0, pass
	}
	defer unix.Close(sock)
	peer, err := unix.GetsockoptUcred(sock, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || peer.Pid <= 0 {
		return 0, pass
	}
	uid, gid, ok := s.peer(sock, int(peer.Pid))
	if !ok || !valid(c.listener, c.notification.id) {
		return 0, pass
	}
	var room [4]byte
	if _, e := readMemory(c.tid(), c.args[4], room[:]); e != 0 {
		return 0, e
	}
	var out []byte
	for _, v := range []uint32{uint32(peer.Pid), uid, gid} {
		out = binary.LittleEndian.AppendUint32(out, v)
	}
	out = out[:min(len(out), int(binary.LittleEndian.Uint32(room[:])))]
	if e := writeMemory(c.tid(), c.args[3], out); e != 0 {
		return 0, e
	}
	binary.LittleEndian.PutUint32(room[:], uint32(len(out)))
	return 0, writeMemory(c.tid(), c.args[4], room[:])
}
