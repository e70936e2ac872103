package limits

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Scope gives the command line that starts this executable with an argument in a cgroup of its own, in which it can make
// others: a scope of the user's systemd, which is who delegates cgroups.
func Scope(arg string) (string, []string, error) {
	systemdRun, err := userManager()
	if err != nil {
		return "", nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("find the own executable: %w", err)
	}
	cmd := []string{systemdRun, "--user", "--scope", "--quiet", "--collect", "-p", "Delegate=yes"}
	if systemdVersion(systemdRun) >= 252 {
		// A process that has taken too much memory is not the end of the others.
		cmd = append(cmd, "-p", "OOMPolicy=continue")
	}
	// systemd-run passes arguments on but not argv[0].
	return systemdRun, append(cmd, "--", exe, arg), nil
}

// systemdVersion is the version of systemd, 0 if it does not tell.
func systemdVersion(systemdRun string) int {
	out, _ := exec.Command(systemdRun, "--version").Output()
	fields := strings.Fields(string(out)) // "systemd 252 (252.38-1~deb12u1)"
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1])
	return n
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
