package run

import (
	"fmt"
	"os"
	"sort"
	"strconv"
)

// processesOf lists the processes in the pid namespace whose first process is
// init on the host, without that one, which is not the container's own.
func processesOf(init int) ([]int, error) {
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init))
	if err != nil {
		return nil, fmt.Errorf("find the container's processes: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find the container's processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == init {
			continue
		}
		// Processes end while they are looked for, and those of other users cannot be read.
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err == nil && ns == want {
			pids = append(pids, pid)
		}
	}
	sort.Ints(pids)
	return pids, nil
}
