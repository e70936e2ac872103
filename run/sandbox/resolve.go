package sandbox

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// inRoot opens a path below the directory root as a process would that has root as its "/": symbolic links and ".." cannot
// lead out. The descriptor is an O_PATH one.
func inRoot(root int, file string) (int, error) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	for {
		// EAGAIN: a rename or mount elsewhere on the machine disturbed the walk; see openat2(2).
		fd, err := unix.Openat2(root, file, how)
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// target opens a mount point below root and makes it, with its parents, when it is missing: a directory, or an empty file.
func target(root int, file string, dir bool) (int, error) {
	fd, err := inRoot(root, file)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return fd, wrapTarget(file, err)
	}
	at, err := unix.FcntlInt(uintptr(root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, wrapTarget(file, err)
	}
	parts := strings.Split(strings.Trim(path.Clean("/"+file), "/"), "/")
	for n, name := range parts {
		last := n == len(parts)-1
		next, err := inRoot(root, path.Join(parts[:n+1]...))
		if errors.Is(err, unix.ENOENT) {
			if last && !dir {
				err = unix.Mknodat(at, name, unix.S_IFREG|0o644, 0)
			} else {
				err = unix.Mkdirat(at, name, 0o755)
			}
			if err == nil {
				next, err = inRoot(root, path.Join(parts[:n+1]...))
			}
		}
		unix.Close(at)
		if err != nil {
			return -1, wrapTarget(file, err)
		}
		at = next
	}
	return at, nil
}

func wrapTarget(file string, err error) error {
	if err != nil {
		return fmt.Errorf("make mount point %s: %w", file, err)
	}
	return nil
}

// fdPath names an open descriptor for a call that takes only paths. It needs the host's or the sandbox's /proc.
func fdPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

// cloneTree makes a detached copy of the mount at a path, with what is mounted below it, as a bind mount would show it.
func cloneTree(at int, file string, flags uint) (int, error) {
	fd, err := unix.OpenTree(at, file, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
	if errors.Is(err, unix.ENOSYS) {
		return -1, fmt.Errorf("%w: Linux 5.6 or later is needed", err)
	}
	return fd, err
}

// attach mounts a detached tree over an open mount point.
func attach(tree, point int) error {
	return unix.MoveMount(tree, "", point, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
