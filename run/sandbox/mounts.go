package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// mountNew mounts a new filesystem at a path of the root.
func (b *builder) mountNew(kind, point string, flags uintptr, options string) error {
	fd, err := target(b.root, point, true)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Mount(kind, fdPath(fd), kind, flags, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, point, err)
	}
	return nil
}

// place mounts a clone at a path of the root and closes it.
func (b *builder) place(c clone, point string) error {
	defer unix.Close(c.fd)
	fd, err := target(b.root, point, c.dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := attach(c.fd, fd); err != nil {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && (st.Mode&unix.S_IFMT == unix.S_IFDIR) != c.dir {
			return fmt.Errorf("mount over %s: %w: one of source and target is a directory and the other is not", point, err)
		}
		return fmt.Errorf("mount over %s: %w", point, err)
	}
	return nil
}

func (b *builder) mountProc() error {
	err := b.mountNew("proc", "/proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: parts of /proc are covered here, as inside another container; that one has to run with an unmasked /proc", err)
	}
	return err
}

// setSysctls sets parameters of the kernel, once /proc is in sight and before it is protected.
func (b *builder) setSysctls() error {
	for _, s := range b.setup.Sysctls {
		f, err := os.OpenFile("/proc/sys/"+strings.ReplaceAll(s.Name, ".", "/"), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(s.Value)
			f.Close()
		}
		if err != nil {
			return fmt.Errorf("set sysctl %s to %q: %w", s.Name, s.Value, errors.Unwrap(err))
		}
	}
	return nil
}

// mountDev makes /dev: a tmpfs with the usual devices of the host, terminals, shared memory and message queues of its own.
func (b *builder) mountDev() error {
	if err := b.mountNew("tmpfs", "/dev", unix.MS_NOSUID|unix.MS_STRICTATIME, "mode=755,size=65536k"); err != nil {
		return err
	}
	dev, err := inRoot(b.root, "/dev")
	if err != nil {
		return fmt.Errorf("open /dev: %w", err)
	}
	defer unix.Close(dev)
	for _, l := range [][2]string{
		{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
		{"pts/ptmx", "ptmx"}, {"/proc/kcore", "core"},
	} {
		if err := unix.Symlinkat(l[0], dev, l[1]); err != nil {
			return fmt.Errorf("make /dev/%s: %w", l[1], err)
		}
	}
	pts := "newinstance,ptmxmode=0666,mode=0620"
	if b.setup.TTYGroup {
		pts += ",gid=5"
	}
	if err := b.mountNew("devpts", "/dev/pts", unix.MS_NOSUID|unix.MS_NOEXEC, pts); err != nil {
		return err
	}
	if !b.setup.HostIPC { // whose are among the devices
		if err := b.mountIPC(); err != nil {
			return err
		}
	}
	for _, d := range b.devices {
		if err := b.place(d, d.to); err != nil {
			return err
		}
	}
	return nil
}

// mountIPC mounts what shows objects of the sandbox's own IPC namespace.
func (b *builder) mountIPC() error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := b.mountNew("tmpfs", "/dev/shm", flags, fmt.Sprintf("mode=1777,size=%d", b.setup.ShmSize)); err != nil {
		return err
	}
	if err := b.mountNew("mqueue", "/dev/mqueue", flags, ""); err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// mountSys shows the host's /sys where the network is the host's: a new sysfs belongs to who owns the network namespace.
func (b *builder) mountSys() error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY
	if b.setup.HostNet {
		return b.place(clone{fd: b.sys, dir: true}, "/sys")
	}
	if err := b.mountNew("sysfs", "/sys", flags, ""); err != nil {
		return err
	}
	// Where the kernel allows it and there is something to see.
	if point, err := inRoot(b.root, "/sys/fs/cgroup"); err == nil {
		unix.Mount("cgroup2", fdPath(point), "cgroup2", flags, "")
		unix.Close(point)
	}
	return nil
}

// mountExtras mounts what the configuration asks for.
func (b *builder) mountExtras() error {
	for n, m := range b.setup.Mounts {
		if m.Kind == MountBind {
			if err := b.place(b.mounts[n], m.Target); err != nil {
				return err
			}
			continue
		}
		if m.Kind == MountFUSE {
			if err := b.mountServed(n, &m); err != nil {
				return err
			}
			continue
		}
		options := m.Options
		if options == "" {
			options = "mode=1777"
		}
		if err := b.mountNew("tmpfs", m.Target, uintptr(m.attributes()), options); err != nil {
			return err
		}
	}
	for n, f := range b.setup.Files {
		if err := b.place(b.files[n], f.Target); err != nil {
			return err
		}
	}
	return nil
}

// pivot makes the root the root and takes the host's tree away; see pivot_root(2), "pivot_root(".", ".")".
func (b *builder) pivot() error {
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open old root: %w", err)
	}
	defer unix.Close(old)
	defer unix.Close(b.root)
	if err := unix.Fchdir(b.root); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Fchdir(old); err != nil {
		return fmt.Errorf("enter old root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	return nil
}

// protect masks paths, makes others read-only, and the root too when asked for.
func (b *builder) protect() error {
	for _, p := range b.setup.ReadOnly {
		if err := overlay(p, func() (int, error) {
			fd, err := cloneTree(unix.AT_FDCWD, p, unix.AT_RECURSIVE)
			if err == nil {
				err = setAttr(fd, unix.MOUNT_ATTR_RDONLY)
			}
			return fd, err
		}); err != nil {
			return fmt.Errorf("make %s read-only: %w", p, err)
		}
	}
	for _, p := range b.setup.Masked {
		if err := mask(p); err != nil {
			return fmt.Errorf("mask %s: %w", p, err)
		}
	}
	if b.setup.ReadOnlyRoot {
		err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
		if err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return nil
}

// overlay mounts a tree over a path. A path that does not exist is no error.
func overlay(file string, tree func() (int, error)) error {
	point, err := unix.Open(file, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(point)
	fd, err := tree()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return attach(fd, point)
}

// mask covers a file with /dev/null and a directory with an empty read-only tmpfs. What does not exist stays so.
func mask(file string) error {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return nil
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.Mount("tmpfs", file, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=0,mode=755")
	}
	return overlay(file, func() (int, error) { return cloneTree(unix.AT_FDCWD, "/dev/null", 0) })
}

func syscallSetrlimit(l Rlimit) error {
	return syscall.Setrlimit(l.Resource, &syscall.Rlimit{Cur: l.Soft, Max: l.Hard})
}

// loopbackUp switches the loopback interface of a new network namespace on.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("switch on loopback: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err == nil {
		ifr.SetUint16(unix.IFF_UP)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
	}
	if err != nil {
		return fmt.Errorf("switch on loopback: %w", err)
	}
	return nil
}
