package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of the test binary that try what a process in the sandbox may do.
func init() {
	commands["ls"] = func(args []string) error {
		entries, err := os.ReadDir(args[0])
		for _, e := range entries {
			fmt.Println(e.Name())
		}
		return err
	}
	commands["calls"] = tryCalls
	commands["attack"] = attack
	commands["mounts"] = tryMounts
	commands["push"] = pushInput
}

// raw makes a system call.
func raw(nr uintptr, args ...uintptr) error {
	var a [6]uintptr
	copy(a[:], args)
	if _, _, e := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5]); e != 0 {
		return e
	}
	return nil
}

func tryCalls(names []string) error {
	runtime.LockOSThread()
	slash, _ := unix.BytePtrFromString("/")
	for _, name := range names {
		var err error
		switch name {
		case "mount":
			err = unix.Mount("tmpfs", "/tmp", "tmpfs", 0, "")
		case "unshare":
			err = unix.Unshare(unix.CLONE_NEWUTS)
			if errors.Is(err, unix.EPERM) { // allowed by the filter it would still need the capability
				err = raw(unix.SYS_UNSHARE, 0)
			}
		case "clone-newuser":
			err = raw(unix.SYS_CLONE, unix.CLONE_NEWUSER|unix.CLONE_THREAD) // EINVAL where it is not filtered
		case "clone3":
			err = raw(unix.SYS_CLONE3, 0, 0)
		case "keyctl":
			err = raw(unix.SYS_KEYCTL, 0, 0)
		case "bpf":
			err = raw(unix.SYS_BPF, 0, 0, 0)
		case "socket-vsock":
			_, err = unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)
		case "personality":
			err = raw(unix.SYS_PERSONALITY, 7)
		case "chroot":
			err = raw(unix.SYS_CHROOT, uintptr(unsafe.Pointer(slash)))
		case "unknown":
			err = raw(999)
		case "io_uring":
			err = raw(unix.SYS_IO_URING_SETUP, 0, 0)
		case "getpid":
			err = raw(unix.SYS_GETPID)
		}
		fmt.Println(name, errnoName(err))
	}
	return nil
}

// attack tries to get at init and through it at the host. What succeeds, and must not, is printed as ESCAPED.
func attack([]string) error {
	var status [64 << 10]byte
	if b, err := os.ReadFile("/proc/self/status"); err == nil {
		copy(status[:], b)
	}
	const sysPtrace = 1 << unix.CAP_SYS_PTRACE
	var eff uint64
	for l := range strings.Lines(string(status[:])) {
		fmt.Sscanf(l, "CapEff:\t%x", &eff)
	}
	traces := eff&sysPtrace != 0
	// With CAP_SYS_PTRACE init is reachable by design; what it holds must be worthless.
	try := func(name string, err error, allowed bool) {
		if err == nil && !allowed {
			fmt.Println("ESCAPED", name)
			return
		}
		fmt.Println(name, errnoName(err))
	}
	_, err := os.Readlink("/proc/1/exe")
	try("read /proc/1/exe", err, traces)
	for _, flags := range []int{os.O_WRONLY, os.O_RDWR | os.O_TRUNC} {
		f, err := os.OpenFile("/proc/1/exe", flags, 0)
		if err == nil { // a running or sealed file refuses in one of the two ways
			_, err = f.Write([]byte("x"))
		}
		try("write /proc/1/exe", err, false)
	}
	entries, err := os.ReadDir("/proc/1/fd")
	try("list /proc/1/fd", err, true) // the numbers; what they are stays hidden
	for _, e := range entries {
		to, _ := os.Readlink("/proc/1/fd/" + e.Name())
		fmt.Println("init holds", e.Name(), to)
		if d, err := os.Stat("/proc/1/fd/" + e.Name()); err == nil && d.IsDir() {
			// Up from there is to be the own root.
			own, _ := os.Stat("/etc/passwd")
			if up, err := os.Stat("/proc/1/fd/" + e.Name() + "/../../../../etc/passwd"); err == nil && !os.SameFile(up, own) {
				fmt.Println("ESCAPED through directory", to)
			}
		}
	}
	try("ptrace init", raw(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 1), traces)
	_, err = os.OpenFile("/proc/1/mem", os.O_RDWR, 0)
	try("open /proc/1/mem", err, traces)
	_, err = os.ReadFile("/proc/1/environ")
	try("read /proc/1/environ", err, traces)
	var root, own unix.Stat_t
	if err = unix.Stat("/proc/1/root/", &root); err == nil && unix.Stat("/", &own) == nil && root.Ino == own.Ino && root.Dev == own.Dev {
		err = errors.New("only the own root")
	}
	try("enter /proc/1/root", err, false)
	// The filesystem by handle.
	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/", 0)
	if err == nil {
		_, err = unix.OpenByHandleAt(unix.AT_FDCWD, handle, unix.O_RDONLY)
	}
	try("open by file handle", err, false)
	pidfd, err := unix.PidfdOpen(1, 0)
	if err == nil {
		err = raw(unix.SYS_PIDFD_GETFD, uintptr(pidfd), controlFD, 0)
	}
	try("take the control socket", err, traces)
	if ns, err := os.Open("/proc/1/ns/user"); err == nil {
		try("join the user namespace of init", raw(unix.SYS_SETNS, ns.Fd(), unix.CLONE_NEWUSER), false)
	}
	try("push input to a terminal", raw(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&status[0]))), false)
	_, err = os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	try("open /dev/fuse", err, false)
	for _, dev := range []uint64{unix.Mkdev(8, 0), unix.Mkdev(254, 0), unix.Mkdev(1, 1)} {
		try("make a block device", unix.Mknod("/tmp/disk", syscall.S_IFBLK|0o600, int(dev)), false)
	}
	return nil
}

// pushInput pushes a byte to its terminal, which is the sandbox's own when it is known by its name here.
func pushInput([]string) error {
	b := [1]byte{'\n'}
	err := raw(unix.SYS_IOCTL, 0, unix.TIOCSTI, uintptr(unsafe.Pointer(&b[0])))
	var here, there unix.Stat_t
	name, _ := os.Readlink("/proc/self/fd/0")
	if e := unix.Fstat(0, &here); e != nil {
		return e
	}
	if unix.Stat(name, &there) != nil || here.Dev != there.Dev || here.Ino != there.Ino {
		fmt.Println("the host's")
		return nil
	}
	fmt.Println("pushed", errnoName(err))
	fmt.Println("own")
	return nil
}

func tryMounts([]string) error {
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	fmt.Println("host", name)
	for _, f := range []string{"/rw/new", "/ro/new", "/scratch/new", "/new", "/etc/new", "/dev/shm/new"} {
		fd, err := unix.Open(f, unix.O_CREAT|unix.O_WRONLY, 0o644)
		fmt.Println(f, errnoName(err))
		unix.Close(fd)
	}
	for _, f := range []string{"/etc/hostname", "/etc/hosts", "/one/file"} {
		text, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		fi, err := os.Stat(f)
		if err != nil {
			return err
		}
		fmt.Printf("%s %o %s\n", f, fi.Mode().Perm(), strings.TrimSpace(string(text)))
	}
	return nil
}
