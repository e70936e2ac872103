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
// A symbolic link that leads to nothing is followed, inside the root, and what it names is made.
func target(root int, file string, dir bool) (int, error) {
	want := file
	for range 40 { // as many links as the kernel follows
		fd, err := inRoot(root, want)
		if errors.Is(err, unix.ENOENT) {
			var next string
			if fd, next, err = makeOrFollow(root, want, dir); next != "" {
				want = next
				continue
			}
		}
		if err != nil {
			return -1, fmt.Errorf("make mount point %s: %w", file, err)
		}
		return fd, nil
	}
	return -1, fmt.Errorf("make mount point %s: %w", file, unix.ELOOP)
}

// makeOrFollow makes a path below root, or says where a dangling symbolic link on the way leads.
func makeOrFollow(root int, file string, dir bool) (fd int, next string, err error) {
	at, err := unix.FcntlInt(uintptr(root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, "", err
	}
	parts := strings.Split(strings.Trim(path.Clean("/"+file), "/"), "/")
	for n, name := range parts {
		here := path.Join(parts[:n+1]...)
		child, err := inRoot(root, here)
		if errors.Is(err, unix.ENOENT) {
			if n == len(parts)-1 && !dir {
				err = unix.Mknodat(at, name, unix.S_IFREG|0o644, 0)
			} else {
				err = unix.Mkdirat(at, name, 0o755)
			}
			var buf [unix.PathMax]byte
			if errors.Is(err, unix.EEXIST) {
				if l, linkErr := unix.Readlinkat(at, name, buf[:]); linkErr == nil {
					unix.Close(at)
					to := string(buf[:l])
					if !path.IsAbs(to) {
						to = path.Join("/", path.Dir(here), to)
					}
					return -1, path.Join(append([]string{to}, parts[n+1:]...)...), nil
				}
			}
			if err == nil {
				child, err = inRoot(root, here)
			}
		}
		unix.Close(at)
		if err != nil {
			return -1, "", err
		}
		at = child
	}
	return at, "", nil
}

// OpenSource opens a path of the host that leads through no symbolic link, as an O_PATH descriptor. One that is there
// nevertheless may be the work of a container that has a part of the way mounted.
func OpenSource(file string) (int, error) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS}
	for {
		fd, err := unix.Openat2(unix.AT_FDCWD, file, how)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ELOOP):
			return -1, fmt.Errorf("open %s: a symlink is there now, or on the way to it, which is not followed: it was none when the container was made", file)
		case err != nil:
			return -1, fmt.Errorf("open %s: %w", file, err)
		default:
			return fd, nil
		}
	}
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
