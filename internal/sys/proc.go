package sys

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// ProcStat gives the fields of /proc/PID/stat that follow the name of the command, which may have any characters: state,
// parent, and so on, as in proc_pid_stat(5) from the third. There are none of a process that is gone.
func ProcStat(pid int) []string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
}
