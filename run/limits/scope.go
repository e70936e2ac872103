package limits

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"mica/run/record"
)

// Scope gives the command line that starts this executable with an argument under the limits
// the container asks for: by a scope of the user's systemd, which is who delegates cgroups.
func Scope(host *record.HostConfig, arg string) (string, []string, error) {
	systemdRun, err := userManager()
	if err != nil {
		return "", nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("find the own executable: %w", err)
	}
	cmd := append([]string{systemdRun, "--user", "--scope", "--quiet", "--collect"}, scopeProperties(host)...)
	// systemd-run passes arguments on but not argv[0].
	return systemdRun, append(cmd, "--", exe, arg), nil
}

// scopeProperties are the options that set a scope's limits.
func scopeProperties(host *record.HostConfig) (args []string) {
	if host.Memory > 0 {
		args = append(args, "-p", "MemoryMax="+strconv.FormatInt(host.Memory, 10))
	}
	if host.CPUs > 0 {
		args = append(args, "-p", fmt.Sprintf("CPUQuota=%d%%", max(int(math.Round(host.CPUs*100)), 1))) // 0% is refused
	}
	if host.PidsLimit > 0 {
		args = append(args, "-p", "TasksMax="+strconv.FormatInt(host.PidsLimit, 10))
	}
	return args
}

// userManager finds the tool to ask the user's systemd with, where there is one.
func userManager() (string, error) {
	runtimeDir := os.Getenv("XDG_RUNTIME_DIR")
	if runtimeDir == "" {
		return "", errNoCgroup
	}
	if _, err := os.Stat(filepath.Join(runtimeDir, "systemd", "private")); err != nil {
		return "", errNoCgroup
	}
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || !strings.HasPrefix(string(data), "0::") {
		return "", errNoCgroup
	}
	path, err := exec.LookPath("systemd-run")
	if err != nil {
		return "", errNoCgroup
	}
	return path, nil
}
