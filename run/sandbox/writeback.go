package sandbox

import (
	"bufio"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What a program puts into mapped pages of a FUSE mount comes to the server when the kernel writes the pages back. There
// syncfs(2) does not do that: it waits for no request on any kernel, and since Linux 6.18 it waits for nothing at all. So
// every file that a process has mapped shared is synced. What is not mapped any more was written back when it was unmapped.

// servedMount is a mount of the sandbox that is served from outside.
type servedMount struct {
	point string // path in the sandbox
	fd    int
	dev   uint64
}

// mappedFile is a line of /proc/PID/maps.
type mappedFile struct {
	dev, ino uint64
	path     string
}

// sync has the servers outside get what programs have put into mapped pages.
func (i *initProcess) sync() {
	defer i.conn.send(&message{Op: opSynced})
	mounts := i.servedMounts()
	defer func() {
		for _, m := range mounts {
			unix.Close(m.fd)
		}
	}()
	type inode struct{ dev, ino uint64 }
	done := map[inode]bool{}
	for _, pid := range i.processes() {
		for _, f := range i.mappedShared(pid) {
			if id := (inode{f.dev, f.ino}); !done[id] {
				done[id] = syncMapped(mounts, f)
			}
		}
	}
}

func (i *initProcess) servedMounts() []servedMount {
	points := []string{"/"}
	for _, m := range i.setup.Mounts {
		if m.Kind == MountFUSE {
			points = append(points, path.Clean(m.Target))
		}
	}
	var mounts []servedMount
	for _, point := range points {
		fd, err := unix.Open(point, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			unix.Close(fd)
			continue
		}
		mounts = append(mounts, servedMount{point, fd, st.Dev})
	}
	return mounts
}

// processes lists the processes of the sandbox.
func (i *initProcess) processes() []int {
	fd, err := unix.Openat(i.proc, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	dir := os.NewFile(uintptr(fd), "/proc")
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// mappedShared lists the files that a process has mapped shared; one that has ended has none.
func (i *initProcess) mappedShared(pid int) []mappedFile {
	fd, err := unix.Openat(i.proc, fmt.Sprintf("%d/maps", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	maps := os.NewFile(uintptr(fd), "maps")
	defer maps.Close()
	var found []mappedFile
	for lines := bufio.NewReader(maps); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			return found
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

// syncMapped syncs a file and says whether it was that which is mapped: what has no name any more cannot be found, and need
// not be.
func syncMapped(mounts []servedMount, f mappedFile) bool {
	for _, m := range mounts {
		below, ok := strings.CutPrefix(f.path, strings.TrimSuffix(m.point, "/")+"/")
		if m.dev != f.dev || !ok {
			continue
		}
		// Other mounts may be the work of a process in the sandbox, and never answer.
		fd, err := unix.Openat2(m.fd, below, &unix.OpenHow{
			Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
		})
		if err != nil {
			continue
		}
		defer unix.Close(fd)
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Dev == f.dev && st.Ino == f.ino {
			_ = unix.Fdatasync(fd) // a server that fails says so to those who wrote
			return true
		}
	}
	return false
}
