package limits

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
	"mica/run/record"
)

// initThreads is how many threads the init of a container may have, which is in the cgroup with everything else: it must not
// fail for want of them.
const initThreads = 24

// limitFiles are the files of a cgroup that set the limits of a container, by the controller that they belong to; see
// cgroups(7) and the kernel's admin-guide/cgroup-v2.
func limitFiles(host *record.HostConfig) (files [][2]string, controllers []string) {
	add := func(controller, file, value string) {
		files = append(files, [2]string{file, value})
		controllers = append(controllers, controller)
	}
	if host.Memory > 0 {
		add("memory", "memory.max", strconv.FormatInt(host.Memory, 10))
	}
	if host.CPUs > 0 {
		const period = 100_000 // microseconds
		add("cpu", "cpu.max", fmt.Sprintf("%d %d", max(int64(math.Round(host.CPUs*period)), 1000), period))
	}
	if host.PidsLimit > 0 {
		add("pids", "pids.max", strconv.FormatInt(host.PidsLimit+initThreads, 10))
	}
	return files, controllers
}

// cgroupPrefix begins the names of the cgroups that are made for containers.
const cgroupPrefix = "mica-"

// Cgroup makes a cgroup with the limits of a container, in one that is delegated to this user, and opens it.
func Cgroup(host *record.HostConfig) (*os.File, error) {
	files, controllers := limitFiles(host)
	parent, err := delegatedCgroup(controllers)
	if err != nil {
		return nil, err
	}
	tidyCgroups(parent)
	enable := "+" + strings.Join(controllers, " +")
	if err := os.WriteFile(filepath.Join(parent, "cgroup.subtree_control"), []byte(enable), 0); err != nil {
		return nil, fmt.Errorf("hand limits on to containers: %w", err)
	}
	dir := filepath.Join(parent, cgroupPrefix+record.NewID()[:12])
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make a cgroup: %w", err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f[0]), []byte(f[1]), 0); err != nil {
			_ = os.Remove(dir)
			return nil, fmt.Errorf("set limit: %w", err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		_ = os.Remove(dir)
	}
	return f, err
}

// Remove removes a cgroup whose processes have ended; nil is none.
func Remove(cgroup *os.File) {
	if cgroup != nil {
		cgroup.Close()
		_ = os.Remove(cgroup.Name())
	}
}

// StepAside moves this process from the cgroup that was made for it into one below: the kernel hands controllers on to others
// from none that has processes of its own.
func StepAside() error {
	top, err := unifiedMount()
	if err != nil {
		return err
	}
	own, err := ownCgroup()
	if err != nil {
		return err
	}
	dir := filepath.Join(top, own, "supervisor")
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make a cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("change to a cgroup: %w", err)
	}
	return nil
}

// leftAlone is how old a cgroup is at least that a supervisor has left behind; it may have to be entered still before that.
const leftAlone = time.Minute

// tidyCgroups removes the cgroups of containers that have ended. The kernel refuses it for others.
func tidyCgroups(parent string) {
	old, _ := filepath.Glob(filepath.Join(parent, cgroupPrefix+"*"))
	for _, dir := range old {
		if fi, err := os.Stat(dir); err == nil && time.Since(fi.ModTime()) > leftAlone {
			_ = unix.Rmdir(dir)
		}
	}
}

// delegatedCgroup finds the nearest cgroup around this process in which the user may make others with the controllers. It must
// have no processes itself, which is the kernel's rule for handing controllers on.
func delegatedCgroup(controllers []string) (string, error) {
	top, err := unifiedMount()
	if err != nil {
		return "", err
	}
	own, err := ownCgroup()
	if err != nil {
		return "", err
	}
	return delegatedBelow(top, own, controllers)
}

// ownCgroup is the path of this process's cgroup in its hierarchy.
func ownCgroup() (string, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", fmt.Errorf("find the own cgroup: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return own, nil
		}
	}
	return "", errNoCgroup
}

// delegatedBelow is delegatedCgroup for the cgroup own of a hierarchy that is mounted at top.
func delegatedBelow(top, own string, controllers []string) (string, error) {
	for path := filepath.Clean("/" + own); ; path = filepath.Dir(path) {
		dir := filepath.Join(top, path)
		if delegates(dir, controllers) {
			return dir, nil
		}
		if path == "/" {
			return "", errNoCgroup
		}
	}
}

// delegates says whether cgroups with the controllers can be made in a directory.
func delegates(dir string, controllers []string) bool {
	for _, name := range []string{"", "cgroup.procs", "cgroup.subtree_control"} {
		if unix.Access(filepath.Join(dir, name), unix.W_OK) != nil {
			return false
		}
	}
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil || len(procs) > 0 {
		return false
	}
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return false
	}
	known := strings.Fields(string(have))
	return !slices.ContainsFunc(controllers, func(c string) bool { return !slices.Contains(known, c) })
}

// unifiedMount is where the second version of cgroups is mounted.
func unifiedMount() (string, error) {
	table, err := sys.Mounts()
	if err != nil {
		return "", fmt.Errorf("find cgroups: %w", err)
	}
	for _, m := range table {
		if m.Type == "cgroup2" && m.Root == "/" {
			return m.Point, nil
		}
	}
	return "", errNoCgroup
}
