package sandbox

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tty is a terminal in the sandbox.
type tty struct{ master, slave int }

// openTTY makes a terminal for a process in the devpts that pts is the root of. With chown it belongs to the process's user.
func openTTY(pts int, spec *wireSpec, chown bool) (*tty, error) {
	t := &tty{-1, -1}
	if err := t.open(pts, spec, chown); err != nil {
		closeAll([]int{t.master, t.slave})
		return nil, fmt.Errorf("open terminal: %w", err)
	}
	return t, nil
}

func (t *tty) open(pts int, spec *wireSpec, chown bool) (err error) {
	if t.master, err = unix.Openat(pts, "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	unlock := int32(0)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(t.master), unix.TIOCSPTLCK, uintptr(unsafe.Pointer(&unlock))); e != 0 {
		return e
	}
	fd, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(t.master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		return e
	}
	t.slave = int(fd)
	size := spec.Size
	if size.Rows == 0 || size.Cols == 0 {
		size = Size{24, 80}
	}
	if err := unix.IoctlSetWinsize(t.master, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Cols}); err != nil {
		return err
	}
	if chown {
		return unix.Fchown(t.slave, int(spec.User.UID), -1)
	}
	return nil
}

// asConsole mounts the terminal over /dev/console.
func (t *tty) asConsole() error {
	n, err := unix.IoctlGetInt(t.master, unix.TIOCGPTN)
	if err != nil {
		return fmt.Errorf("make console: %w", err)
	}
	if err := unix.Mknod("/dev/console", unix.S_IFREG|0o600, 0); err != nil {
		return fmt.Errorf("make console: %w", err)
	}
	if err := overlay("/dev/console", func() (int, error) {
		return cloneTree(unix.AT_FDCWD, fmt.Sprintf("/dev/pts/%d", n), 0)
	}); err != nil {
		return fmt.Errorf("make console: %w", err)
	}
	return nil
}
