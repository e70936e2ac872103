package supervise

import (
	"fmt"
	"os"
	"sort"
	"strconv"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// processesOf lists the processes in the pid namespace whose first process is
// init on the host, and in those made in it, without that first one, which is not the container's own.
func processesOf(init int) ([]int, error) {
	own, err := pidNamespace(init)
	if err != nil {
		return nil, fmt.Errorf("find the container's processes: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find the container's processes: %w", err)
	}
	within := map[string]bool{own: true} // whether a namespace is the container's
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == init {
			continue
		}
		ns, err := pidNamespace(pid)
		if err != nil {
			continue // it has ended, or is another user's
		}
		in, known := within[ns]
		if !known {
			in = madeIn(pid, own)
			within[ns] = in
		}
		if in {
			pids = append(pids, pid)
		}
	}
	sort.Ints(pids)
	return pids, nil
}

// pidNamespace names the pid namespace of a process.
func pidNamespace(pid int) (string, error) {
	return os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
}

// madeIn tells whether the pid namespace of a process descends from another one; see ioctl_nsfs(2).
func madeIn(pid int, ancestor string) bool {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/pid", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	for err == nil {
		child := fd
		fd, err = unix.IoctlRetInt(child, unix.NS_GET_PARENT) // EPERM: there is none within this process's own
		unix.Close(child)
		if err != nil {
			break
		}
		if name, _ := os.Readlink(sys.FdPath(fd)); name == ancestor {
			unix.Close(fd)
			return true
		}
	}
	return false
}
