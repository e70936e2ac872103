package sandbox

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a program puts into mapped pages of a FUSE mount comes to the server when the kernel writes the pages back. There
// syncfs(2) does not do that: it waits for no request on any kernel, and since Linux 6.18 it waits for nothing at all. So
// every file that a process has mapped shared is synced. Those of the root that are found by the name in the process's list
// of mappings are synced here, in large writes. Of the others, without that name or on another mount, the servers have
// the kernel write back page by page: they need no name. What is not mapped any more was written back when it was
// unmapped.

// mappedFile is a line of /proc/PID/maps.
type mappedFile struct {
	dev, ino uint64
	path     string
}

// sync answers the request with a number: files of the root have been synced, but for those whose inode numbers it names.
func (i *initProcess) sync(number int) {
	left := make(map[uint64]bool)
	type inode struct{ dev, ino uint64 }
	done := make(map[inode]bool)
	root, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(root)
	}
	for _, pid := range i.numbers(".") {
		for _, f := range i.mappedShared(pid) {
			if id := (inode{f.dev, f.ino}); !done[id] {
				done[id] = err == nil && f.dev == i.rootDev && syncMapped(root, f)
				left[f.ino] = left[f.ino] || !done[id]
			}
		}
	}
	answer := &message{Op: opSynced, ID: number}
	for ino, is := range left {
		if is {
			answer.Inodes = append(answer.Inodes, ino)
		}
	}
	i.conn.send(answer)
}

// numbers lists the processes or threads in a directory of /proc.
func (i *initProcess) numbers(name string) []int {
	fd, err := unix.Openat(i.proc, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), "/proc")
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var numbers []int
	for _, name := range names {
		if n, err := strconv.Atoi(name); err == nil {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// mappedShared lists the files that a process has mapped shared; one that has ended has none. A process whose first thread
// has ended shows its mappings by the others alone.
func (i *initProcess) mappedShared(pid int) []mappedFile {
	found, any := i.readMaps(fmt.Sprintf("%d/maps", pid))
	for _, tid := range i.numbers(fmt.Sprintf("%d/task", pid)) {
		if any {
			break
		}
		found, any = i.readMaps(fmt.Sprintf("%d/task/%d/maps", pid, tid))
	}
	return found
}

// readMaps lists the files that are mapped shared, and tells whether anything is mapped.
func (i *initProcess) readMaps(name string) (found []mappedFile, any bool) {
	fd, err := unix.Openat(i.proc, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false
	}
	maps := os.NewFile(uintptr(fd), "maps")
	defer maps.Close()
	for lines := bufio.NewReader(maps); ; any = true {
		line, err := lines.ReadString('\n')
		if err != nil {
			return found, any
		}
		if f, ok := parseMapping(strings.TrimSuffix(line, "\n")); ok {
			found = append(found, f)
		}
	}
}

// parseMapping reads a line of maps, see proc_pid_maps(5). It is not ok unless it stands for a file that is mapped shared.
func parseMapping(line string) (f mappedFile, ok bool) {
	var field [5]string // addresses, permissions, offset, device, inode
	for n := range field {
		field[n], line, _ = strings.Cut(line, " ")
	}
	if !strings.HasSuffix(field[1], "s") {
		return f, false
	}
	major, minor, _ := strings.Cut(field[3], ":")
	ma, err1 := strconv.ParseUint(major, 16, 32)
	mi, err2 := strconv.ParseUint(minor, 16, 32)
	ino, err3 := strconv.ParseUint(field[4], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || ino == 0 {
		return f, false
	}
	name := strings.ReplaceAll(strings.TrimLeft(line, " "), `\012`, "\n")
	return mappedFile{dev: unix.Mkdev(uint32(ma), uint32(mi)), ino: ino, path: name}, true
}

// syncMapped syncs a file of the root and says whether it was that which is mapped: its name may have been removed, or lie
// below another mount. Those may be the work of a process in the sandbox, and never answer.
func syncMapped(root int, f mappedFile) bool {
	fd, err := unix.Openat2(root, strings.TrimLeft(f.path, "/"), &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Dev != f.dev || st.Ino != f.ino {
		return false
	}
	_ = unix.Fdatasync(fd) // a server that fails says so to those who wrote
	return true
}

// Sync returns when the servers of the root and of the MountFUSE mounts have got what programs had put into mapped pages, or
// when the sandbox has ended, which does the same.
func (s *Sandbox) Sync() error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	s.syncs++
	if s.conn.send(&message{Op: opSync, ID: s.syncs}) != nil {
		return nil // it is ending
	}
	limit := time.NewTimer(syncLimit)
	defer limit.Stop()
	for {
		select {
		case m := <-s.synced:
			if m.ID != s.syncs {
				continue // the answer that came too late
			}
			if err := s.writeBack(m.Inodes); err != nil {
				return err
			}
			s.drain(syncDrain)
			return nil
		case <-s.done:
			return nil
		case <-limit.C:
			return fmt.Errorf("write back what programs have mapped: that takes longer than %v", syncLimit)
		}
	}
}

// syncLimit is how long init may take: what it asks the kernel may wait for another mount, which a process in the sandbox
// serves.
const syncLimit = 30 * time.Second
