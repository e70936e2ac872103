package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// build makes the sandbox around init: everything from the mounts to the resource limits. Afterwards init sees, and holds,
// nothing of the host but the control socket.
func (i *initProcess) build() error {
	b := &builder{setup: i.setup, conn: i.conn, root: -1}
	unix.Umask(0)
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := b.cloneSources(); err != nil {
		return err
	}
	if err := i.waitFor(opMaps, i.setup.WaitMaps); err != nil {
		return err
	}
	if err := become(i.setup.Become); err != nil {
		return err
	}
	for _, step := range []func() error{
		b.makeFiles, b.mountRoot, b.mountProc, b.mountDev, b.mountSys, b.mountExtras, b.pivot, b.setSysctls, b.protect,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := i.waitFor(opNet, i.setup.WaitNet); err != nil {
		return err
	}
	return i.settle()
}

// waitFor reads the message op when it is due.
func (i *initProcess) waitFor(op string, due bool) error {
	if !due {
		return nil
	}
	m, fds, err := i.conn.recv()
	closeAll(fds)
	if err == nil && m.Op != op {
		err = fmt.Errorf("unexpected %s message", m.Op)
	}
	if err != nil {
		return fmt.Errorf("wait for %s: %w", op, err)
	}
	return nil
}

// settle is what remains once the mounts are in place.
func (i *initProcess) settle() error {
	var err error
	if i.null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /dev/null: %w", err)
	}
	if i.pts, err = unix.Open("/dev/pts", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /dev/pts: %w", err)
	}
	if i.setup.Main.TTY {
		if i.mainTTY, err = openTTY(i.pts, &i.setup.Main, i.setup.HasGroups); err != nil {
			return err
		}
		if err := i.mainTTY.asConsole(); err != nil {
			return err
		}
	}
	for n := range 2 { // the host's /dev/null; standard error stays, a pipe for a last word
		if err := unix.Dup3(i.null, n, 0); err != nil {
			return fmt.Errorf("replace descriptor %d: %w", n, err)
		}
	}
	if i.setup.Hostname != "" {
		if err := unix.Sethostname([]byte(i.setup.Hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", i.setup.Hostname, err)
		}
	}
	if i.setup.Domain != "" {
		if err := unix.Setdomainname([]byte(i.setup.Domain)); err != nil {
			return fmt.Errorf("set domain name %q: %w", i.setup.Domain, err)
		}
	}
	if i.setup.Loopback {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	if adj := i.setup.OOMScoreAdj; adj != nil {
		if err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(*adj)), 0); err != nil {
			return fmt.Errorf("set the out-of-memory score to %d: %w: a plain user can only raise it, up to 1000", *adj, errors.Unwrap(err))
		}
	}
	for _, l := range i.setup.Rlimits {
		if err := setRlimit(l); err != nil {
			return err
		}
	}
	unix.Umask(int(i.setup.Umask))
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, "/", unix.AT_STATX_DONT_SYNC, 0, &st); err != nil {
		return fmt.Errorf("look at the root: %w", err)
	}
	i.rootDev = unix.Mkdev(st.Dev_major, st.Dev_minor)
	if err := i.showProc(); err != nil {
		return err
	}
	// Last, because /proc/self belongs to someone else afterwards.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("hide init: %w", err)
	}
	return nil
}

// showProc opens /proc and hands it out, which tells the servers outside about the processes that use them.
func (i *initProcess) showProc() (err error) {
	if i.proc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /proc: %w", err)
	}
	return i.conn.send(&message{Op: opProc}, i.proc)
}

// builder holds descriptors of mounts that are not in place yet.
type builder struct {
	setup   *setup
	conn    *conn
	root    int // O_PATH descriptor of the root, once mounted
	devices []clone
	mounts  []clone // by index of setup.Mounts; fd is -1 for what is not a bind mount
	files   []clone // by index of setup.Files
	rootDir clone   // when the root is a directory
	sys     int
}

// clone is a detached mount and whether it shows a directory.
type clone struct {
	fd  int
	dir bool
	to  string
}

// bind clones a mount of the host.
func bind(source string, attr uint64) (clone, error) {
	fd, err := cloneTree(unix.AT_FDCWD, source, unix.AT_RECURSIVE)
	if err != nil {
		return clone{}, fmt.Errorf("mount %s: %w", source, err)
	}
	return cloned(fd, source, attr)
}

// bindStraight is bind for a source that leads through no symlink.
func bindStraight(source string, attr uint64) (clone, error) {
	at, err := OpenSource(source)
	if err != nil {
		return clone{}, err
	}
	defer unix.Close(at)
	fd, err := cloneTree(at, "", unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return clone{}, fmt.Errorf("mount %s: %w", source, err)
	}
	return cloned(fd, source, attr)
}

// cloned gives the clone of a mount its attributes.
func cloned(fd int, source string, attr uint64) (clone, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return clone{}, fmt.Errorf("mount %s: %w", source, err)
	}
	if attr != 0 {
		if err := setAttr(fd, attr); err != nil {
			return clone{}, fmt.Errorf("mount %s: %w", source, err)
		}
	}
	return clone{fd: fd, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}, nil
}

// setAttr adds attributes to a mount and everything below it.
func setAttr(fd int, attr uint64) error {
	err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attr})
	if errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("%w: Linux 5.12 or later is needed", err)
	}
	return err
}

// cloneSources clones everything that comes from the host while its paths are still in sight.
func (b *builder) cloneSources() error {
	devices := []Device{{Source: "/dev/null"}, {Source: "/dev/zero"}, {Source: "/dev/full"}, {Source: "/dev/random"}, {Source: "/dev/urandom"}, {Source: "/dev/tty"}}
	if b.setup.HostIPC {
		for _, dir := range []string{"/dev/shm", "/dev/mqueue"} {
			if _, err := os.Stat(dir); err == nil {
				devices = append(devices, Device{Source: dir})
			}
		}
	}
	for _, d := range append(devices, b.setup.Devices...) {
		c, err := bind(d.Source, unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_NOSUID)
		if err != nil {
			return err
		}
		if c.to = d.Target; c.to == "" {
			c.to = d.Source
		}
		b.devices = append(b.devices, c)
	}
	for _, m := range b.setup.Mounts {
		c := clone{fd: -1}
		if m.Kind == MountBind {
			open := bind
			if m.Straight {
				open = bindStraight
			}
			var err error
			if c, err = open(m.Source, m.attributes()); err != nil {
				return err
			}
		}
		b.mounts = append(b.mounts, c)
	}
	for _, f := range b.setup.Files {
		c := clone{fd: -1}
		if f.Source != "" {
			var err error
			if c, err = bind(f.Source, 0); err != nil {
				return err
			}
		}
		b.files = append(b.files, c)
	}
	if b.setup.RootDir != "" {
		if err := b.cloneRoot(); err != nil {
			return err
		}
	}
	if b.setup.HostNet {
		c, err := bind("/sys", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
		if err != nil {
			return err
		}
		b.sys = c.fd
	}
	return nil
}

// attributes are the flags of a mount, MOUNT_ATTR_*. Those of mount(2), MS_*, are the same bits.
func (m *Mount) attributes() uint64 {
	var attr uint64
	for _, f := range []struct {
		on  bool
		bit uint64
	}{{m.ReadOnly, unix.MOUNT_ATTR_RDONLY}, {m.NoExec, unix.MOUNT_ATTR_NOEXEC}, {m.NoDev, unix.MOUNT_ATTR_NODEV}, {m.NoSuid, unix.MOUNT_ATTR_NOSUID}} {
		if f.on {
			attr |= f.bit
		}
	}
	return attr
}

// become makes init user and group 0 of the sandbox, which it is not yet when the user keeps the own id.
func become(due bool) error {
	if !due {
		return nil
	}
	if err := unix.Setresgid(0, 0, 0); err != nil {
		return fmt.Errorf("become group 0: %w", err)
	}
	if err := unix.Setresuid(0, 0, 0); err != nil {
		return fmt.Errorf("become user 0: %w", err)
	}
	// A change of ids clears this.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("ask for parent-death signal: %w", err)
	}
	return nil
}

// stageDir is any directory of the host: the root is mounted over it until it becomes the root.
func stageDir() (string, error) {
	for _, dir := range []string{"/tmp", "/run", "/var", "/usr", "/etc"} {
		if fi, err := os.Lstat(dir); err == nil && fi.IsDir() {
			return dir, nil
		}
	}
	return "", errors.New("mount root: the host has none of /tmp, /run, /var, /usr and /etc")
}

// makeFiles puts generated files into a tmpfs and clones a mount of each. The tmpfs itself goes out of sight below the root.
func (b *builder) makeFiles() error {
	var dir string
	for n, f := range b.setup.Files {
		if f.Source != "" {
			continue
		}
		if dir == "" {
			var err error
			if dir, err = stageDir(); err != nil {
				return err
			}
			if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
				return fmt.Errorf("mount tmpfs for generated files: %w", err)
			}
		}
		source := dir + "/" + strconv.Itoa(n)
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		err := os.WriteFile(source, f.Content, os.FileMode(mode&0o777))
		if err == nil {
			b.files[n], err = bind(source, 0)
		}
		if err != nil {
			return fmt.Errorf("make %s: %w", f.Target, err)
		}
	}
	return nil
}

// mountRoot mounts the root and opens it. The root may be served from now on.
func (b *builder) mountRoot() error {
	dir, err := stageDir()
	if err != nil {
		return err
	}
	if b.setup.RootDir != "" {
		err = b.mountRootDir(dir)
	} else {
		err = b.mountFuse(dir, 0, 0, b.setup.FUSEOptions)
	}
	if err != nil {
		return err
	}
	if b.root, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open root: %w", err)
	}
	return nil
}

// cloneRoot clones the directory that is to be the root.
func (b *builder) cloneRoot() error {
	attr := uint64(0)
	if b.setup.ReadOnlyRoot {
		attr = unix.MOUNT_ATTR_RDONLY
	}
	var err error
	if b.rootDir, err = bind(b.setup.RootDir, attr); err != nil {
		return err
	}
	if b.setup.ReadOnlyRoot {
		// The top one stays writable for mount points until protect. Where it was read-only before this fails, rightly.
		unix.MountSetattr(b.rootDir.fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_clr: unix.MOUNT_ATTR_RDONLY})
	}
	return nil
}

func (b *builder) mountRootDir(dir string) error {
	defer unix.Close(b.rootDir.fd)
	point, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	defer unix.Close(point)
	if err := attach(b.rootDir.fd, point); err != nil {
		return fmt.Errorf("mount root: %w", err)
	}
	return nil
}

// mountFuse opens /dev/fuse in this user namespace, mounts and hands the descriptor out under a number: 0 is the root, what
// follows are the mounts of the configuration.
func (b *builder) mountFuse(dir string, number int, flags uintptr, extra string) error {
	const device = "/dev/fuse"
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("open %s: %w: the kernel module is missing; load it with: modprobe fuse", device, err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return fmt.Errorf("open %s: %w: open it to users with: chmod 666 %s (lasting: a udev rule KERNEL==\"fuse\", MODE=\"0666\")", device, err, device)
	case err != nil:
		return fmt.Errorf("open %s: %w", device, err)
	}
	defer unix.Close(fd)
	if err := sys.CheckFuseDevice(fd); err != nil {
		return fmt.Errorf("open %s: %w", device, err)
	}
	uid, gid := os.Geteuid(), os.Getegid()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fd, uid, gid)
	if extra != "" {
		options += "," + extra
	}
	if err := unix.Mount("mica", dir, "fuse.mica", unix.MS_NODEV|flags, options); err != nil {
		return fmt.Errorf("mount with %q: %w", options, err)
	}
	if err := b.conn.send(&message{Op: opFuse, ID: number}, fd); err != nil {
		return fmt.Errorf("hand out /dev/fuse: %w", err)
	}
	return nil
}

func setRlimit(l Rlimit) error {
	err := unix.Setrlimit(l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard})
	if l.Resource == unix.RLIMIT_NOFILE {
		// Through syscall, which then no longer restores the old limit in children.
		err = syscallSetrlimit(l)
	}
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("set resource limit %d to %d:%d: %w: a plain user cannot raise the hard limit", l.Resource, int64(l.Soft), int64(l.Hard), err)
	}
	if err != nil {
		return fmt.Errorf("set resource limit %d to %d:%d: %w", l.Resource, int64(l.Soft), int64(l.Hard), err)
	}
	return nil
}
