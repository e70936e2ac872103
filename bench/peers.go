package bench

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Names of the built-in peers.
const (
	peerNative = "native"
	peerKern   = "kernel"
	peerFuse   = "fuse-overlayfs"
	peerMica   = "mica"
	// peerDropIn is mica with the defaults of fuse-overlayfs; it takes part when asked for.
	peerDropIn = "mica-dropin"
)

// builtinPeers are the filesystems that are always known, in the order of the report.
func builtinPeers(mica string, options []string) []peerSpec {
	const places = "lowerdir={lower},upperdir={upper},workdir={work}"
	own := append([]string{places, "stats={stats}", "catalogs={catalogs}", "copyup=blocks", "redirect_dir=on", "owners=stored"}, options...)
	return []peerSpec{
		{Name: peerNative, Kind: peerFlat, Version: "plain directory"},
		{Name: peerKern, Kind: peerKernel, Version: "overlayfs of Linux " + kernelRelease() + ", userxattr"},
		{Name: peerFuse, Kind: peerCommand, Argv: []string{"fuse-overlayfs", "-o", places, "{dir}"}},
		{Name: peerDropIn, Kind: peerCommand, Argv: []string{mica, "overlay", "-o", places + ",stats={stats}", "{dir}"}},
		{Name: peerMica, Kind: peerCommand, Argv: []string{mica, "overlay", "-o", strings.Join(own, ","), "{dir}"}},
	}
}

func builtinNames() []string {
	var names []string
	for _, p := range builtinPeers("", nil) {
		names = append(names, p.Name)
	}
	return names
}

// isToolPeer says whether a peer is a variant of some workload on programs.
func isToolPeer(name string) bool {
	for _, w := range workloads() {
		for _, v := range w.variants {
			if v.peer == name {
				return true
			}
		}
	}
	return false
}

// versionOf asks a program for its version: the first line with its name and a digit, else the first with a digit.
func versionOf(program string) string {
	out, err := exec.Command(program, "--version").CombinedOutput()
	if err != nil {
		return ""
	}
	version := ""
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if !strings.ContainsAny(line, "0123456789") {
			continue
		}
		if strings.HasPrefix(line, filepath.Base(program)) && !strings.HasPrefix(version, filepath.Base(program)) || version == "" {
			version = line
		}
	}
	return version
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

func cpuModel() string { return procLine("/proc/cpuinfo", "model name") }

func memoryMB() int {
	kb, _ := strconv.Atoi(strings.TrimSuffix(procLine("/proc/meminfo", "MemTotal"), " kB")) // the kernel wrote the number
	return kb / 1024
}

// loadAverage is the load of the last minute, 0 where the kernel does not tell.
func loadAverage() float64 {
	var load float64
	if raw, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(raw), &load)
	}
	return load
}

// procLine is the value of the first "name: value" line of a file in /proc.
func procLine(file, name string) string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(raw) {
		if k, v, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// filesystemOf names the filesystem that a path is on.
func filesystemOf(path string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return "unknown"
	}
	names := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
		unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs", unix.FUSE_SUPER_MAGIC: "fuse", unix.F2FS_SUPER_MAGIC: "f2fs"}
	if n, ok := names[int64(st.Type)]; ok {
		return n
	}
	return fmt.Sprintf("0x%x", st.Type)
}
