package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mica/layerstore"
	"mica/run/archive"
	"mica/run/limits"
	"mica/run/record"
	"mica/run/sandbox"
)

// DiskUsage sums the bytes on disk of all files below dir, as far as they can
// be read.
func DiskUsage(dir string) int64 {
	var sum int64
	links := make(archive.Links)
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		if fi, err := d.Info(); err == nil {
			if _, again := links.Seen(fi, p); !again {
				sum += fi.Sys().(*syscall.Stat_t).Blocks * 512
			}
		}
		return nil
	})
	return sum
}

// Use is what one kind of object takes on disk.
type Use struct {
	Type              string
	Total, Active     int
	Size, Reclaimable int64 // bytes
}

// DiskUse tells what images, containers and volumes take. The error of images that cannot be read comes beside it, as from
// [layerstore.Store.Images].
func (e *Engine) DiskUse(ctx context.Context) ([]Use, error) {
	s, err := e.Store()
	if err != nil {
		return nil, err
	}
	images, broken := s.Images()
	containers, err := e.Containers.List()
	if err != nil {
		return nil, err
	}
	used := make(map[string]bool)
	cu := Use{Type: "Containers", Total: len(containers)}
	for _, c := range containers {
		used[c.Config.ImageID] = true
		size := DiskUsage(c.Upper())
		cu.Size += size
		if c.State.Alive() {
			cu.Active++
		} else {
			cu.Reclaimable += size
		}
	}
	iu, bu := imageUse(images, used)
	volumes, err := e.Volumes().List()
	if err != nil {
		return nil, err
	}
	users, err := e.VolumeUsers()
	if err != nil {
		return nil, err
	}
	vu := Use{Type: "Local Volumes", Total: len(volumes)}
	for _, v := range volumes {
		size := DiskUsage(v.Data)
		vu.Size += size
		if len(users[v.Name]) > 0 {
			vu.Active++
		} else {
			vu.Reclaimable += size
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return []Use{iu, cu, vu, bu}, broken
}

// imageUse tells what images take, and what steps of builds take beyond that. used has the IDs of images with containers.
func imageUse(images []*layerstore.Image, used map[string]bool) (iu, bu Use) {
	iu, bu = Use{Type: "Images"}, Use{Type: "Build Cache"}
	count := func(u *Use, which func(*layerstore.Image) bool, seen map[string]bool) {
		sizes := make(map[string]int64) // of layers, by chain, so that shared ones count once
		needed := make(map[string]bool)
		for _, img := range images {
			if !which(img) {
				continue
			}
			u.Total++
			if used[img.ID] {
				u.Active++
			}
			for _, l := range img.Layers {
				if id := l.ChainID.String(); !seen[id] {
					sizes[id] = l.Size
					needed[id] = needed[id] || used[img.ID]
				}
			}
		}
		for id, size := range sizes {
			seen[id] = true
			u.Size += size
			if !needed[id] {
				u.Reclaimable += size
			}
		}
	}
	seen := make(map[string]bool)
	count(&iu, func(img *layerstore.Image) bool { return !img.IsStep() }, seen)
	count(&bu, (*layerstore.Image).IsStep, seen)
	return iu, bu
}

// Info is what `mica info` shows.
type Info struct {
	Version, OSType, Architecture, KernelVersion, Root string
	ServerVersion, OperatingSystem, OSVersion, Name    string
	Driver, DockerRootDir, CgroupVersion               string
	SecurityOptions                                    []string
	NCPU                                               int
	MemTotal                                           int64 // bytes
	Containers, ContainersRunning, ContainersStopped   int
	ContainersPaused                                   int
	Images                                             int
	Fuse, UserNamespaces, SubordinateIDs, Pasta        string
	Cgroups, Fusermount                                string
}

// Info looks at the store and at what the machine offers. The error of images that cannot be read comes beside it.
func (e *Engine) Info() (*Info, error) {
	s, err := e.Store()
	if err != nil {
		return nil, err
	}
	images, broken := s.Images()
	containers, err := e.Containers.List()
	if err != nil {
		return nil, err
	}
	i := &Info{
		Root: e.root, Images: len(images), Containers: len(containers),
		Driver: "mica", DockerRootDir: e.root, SecurityOptions: []string{"name=seccomp,profile=default", "name=rootless"},
	}
	for _, c := range containers {
		switch {
		case c.State.Status == record.Paused:
			i.ContainersPaused++
		case c.State.Alive():
			i.ContainersRunning++
		default:
			i.ContainersStopped++
		}
	}
	i.describeMachine()
	i.Fuse = "/dev/fuse is open to you"
	if err := unix.Access("/dev/fuse", unix.R_OK|unix.W_OK); err != nil {
		mend := "chmod 666 /dev/fuse"
		if errors.Is(err, os.ErrNotExist) {
			mend = "modprobe fuse"
		}
		i.Fuse = fmt.Sprintf("/dev/fuse: %v; root makes it usable with %q", err, mend)
	}
	i.UserNamespaces = "available"
	if data, err := os.ReadFile("/proc/sys/user/max_user_namespaces"); err == nil && strings.TrimSpace(string(data)) == "0" {
		i.UserNamespaces = "forbidden: root allows them with \"sysctl user.max_user_namespaces=15000\""
	}
	i.SubordinateIDs = subordinateIDs()
	i.Pasta, i.Fusermount = tool("pasta", "passt"), tool("fusermount3", "fuse3")
	i.Cgroups = "limits of memory, cpus and processes"
	if err := limits.Check(&record.HostConfig{Memory: 1, CPUs: 1, PidsLimit: 1}); err != nil {
		i.Cgroups = "not delegated: no limits of memory, cpus and processes"
	}
	return i, broken
}

// describeMachine tells which system this is.
func (i *Info) describeMachine() {
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		i.KernelVersion, i.Name = unix.ByteSliceToString(uts.Release[:]), unix.ByteSliceToString(uts.Nodename[:])
	}
	var memory unix.Sysinfo_t
	if unix.Sysinfo(&memory) == nil {
		i.MemTotal = int64(memory.Totalram) * int64(memory.Unit)
	}
	i.CgroupVersion = "1"
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		i.CgroupVersion = "2"
	}
	release, err := os.ReadFile("/etc/os-release") // see os-release(5)
	if err != nil {
		return
	}
	for line := range strings.Lines(string(release)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), "="); key {
		case "PRETTY_NAME":
			i.OperatingSystem = strings.Trim(value, `"'`)
		case "VERSION_ID":
			i.OSVersion = strings.Trim(value, `"'`)
		}
	}
}

// subordinateIDs tells how many ids containers have beside the user's own, or what to do to have some.
func subordinateIDs() string {
	m, err := sandbox.ResolveIDs(sandbox.IDsFull)
	if err != nil {
		why := err.Error()
		var none *sandbox.NoIDsError
		if errors.As(err, &none) {
			why = none.Mend
		}
		return "none, containers have one id: " + why
	}
	var n uint32
	for _, r := range m.UIDs {
		if r.Outside != uint32(os.Getuid()) { // one's own needs no help
			n += r.Size
		}
	}
	return fmt.Sprintf("%d ids by newuidmap", n)
}

// tool tells where a program is, or which package has it.
func tool(name, pkg string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		return "missing: install the package " + pkg
	}
	return path
}

// Print writes the information for people to read.
func (i *Info) Print(w io.Writer) {
	for _, line := range []struct{ key, value string }{
		{"Version", i.Version}, {"Store", i.Root}, {"Kernel", i.KernelVersion},
		{"Machine", fmt.Sprintf("%s/%s, %d processors", i.OSType, i.Architecture, i.NCPU)},
		{"Containers", fmt.Sprintf("%d (%d running, %d paused, %d stopped)", i.Containers, i.ContainersRunning, i.ContainersPaused, i.ContainersStopped)},
		{"Images", fmt.Sprint(i.Images)}, {"FUSE", i.Fuse}, {"User namespaces", i.UserNamespaces}, {"Subordinate ids", i.SubordinateIDs},
		{"Network (pasta)", i.Pasta}, {"Host mounts", i.Fusermount}, {"Cgroups", i.Cgroups},
	} {
		fmt.Fprintf(w, "%-16s %s\n", line.key+":", line.value)
	}
}
