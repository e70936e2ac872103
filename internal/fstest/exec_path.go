package fstest

import (
	"fmt"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// noFollow in an operation's flags means AT_SYMLINK_NOFOLLOW, whatever else
// they are.
const noFollow = 1 << 30

func follow(o Op) int {
	if o.Flags&noFollow != 0 {
		return unix.AT_SYMLINK_NOFOLLOW
	}
	return 0
}

// pathOps are the operations that name what they work on.
var pathOps = map[Code]func(*side, Op) (string, error){
	OpOpen: func(s *side, o Op) (string, error) {
		fd, err := unix.Open(s.path(o), o.Flags|unix.O_NONBLOCK|unix.O_CLOEXEC, o.Mode)
		return "", s.put(o, fd, err)
	},
	OpOpendir: func(s *side, o Op) (string, error) {
		fd, err := unix.Open(s.path(o), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err := s.put(o, fd, err); err != nil {
			return "", err
		}
		s.slots[slotKey{o.Actor, o.Slot}].dir = newDirStream()
		return "", nil
	},
	OpTmpfile: func(s *side, o Op) (string, error) {
		fd, err := unix.Open(s.path(o), o.Flags|unix.O_TMPFILE|unix.O_CLOEXEC, o.Mode)
		return "", s.put(o, fd, err)
	},
	OpTruncate: func(s *side, o Op) (string, error) { return "", unix.Truncate(s.path(o), o.Len) },
	OpLink: func(s *side, o Op) (string, error) {
		flags := unix.AT_SYMLINK_FOLLOW
		if o.Flags&noFollow != 0 {
			flags = 0
		}
		return "", unix.Linkat(unix.AT_FDCWD, s.path(o), unix.AT_FDCWD, s.abs(o.Path2), flags)
	},
	OpUnlink: func(s *side, o Op) (string, error) { return "", unix.Unlink(s.path(o)) },
	OpMkdir:  func(s *side, o Op) (string, error) { return "", unix.Mkdir(s.path(o), o.Mode) },
	OpRmdir:  func(s *side, o Op) (string, error) { return "", unix.Rmdir(s.path(o)) },
	OpRename: func(s *side, o Op) (string, error) {
		return "", unix.Renameat2(unix.AT_FDCWD, s.path(o), unix.AT_FDCWD, s.abs(o.Path2), uint(o.Flags))
	},
	OpSymlink: func(s *side, o Op) (string, error) { return "", unix.Symlink(string(o.Path2), s.path(o)) },
	OpReadlink: func(s *side, o Op) (string, error) {
		buf := make([]byte, 4096)
		n, err := unix.Readlink(s.path(o), buf)
		return string(buf[:max(n, 0)]), err
	},
	OpMknod: func(s *side, o Op) (string, error) {
		return "", unix.Mknod(s.path(o), o.Mode, int(o.Off))
	},
	OpChmod: func(s *side, o Op) (string, error) { return "", unix.Chmod(s.path(o), o.Mode) },
	OpChown: func(s *side, o Op) (string, error) {
		return "", unix.Fchownat(unix.AT_FDCWD, s.path(o), o.UID, o.GID, follow(o))
	},
	OpUtimes: func(s *side, o Op) (string, error) {
		p := s.path(o)
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{o.At, o.Mt}, follow(o)); err != nil {
			return "", err
		}
		var st unix.Stat_t
		err := unix.Fstatat(unix.AT_FDCWD, p, &st, follow(o))
		return s.setTimes(&st, o), err
	},
	OpSetxattr: func(s *side, o Op) (string, error) {
		if o.Flags&noFollow != 0 {
			return "", unix.Lsetxattr(s.path(o), string(o.Path2), valueOf(o), o.Flags&3)
		}
		return "", unix.Setxattr(s.path(o), string(o.Path2), valueOf(o), o.Flags&3)
	},
	OpGetxattr: func(s *side, o Op) (string, error) {
		buf := make([]byte, o.Len)
		get := unix.Getxattr
		if o.Flags&noFollow != 0 {
			get = unix.Lgetxattr
		}
		n, err := get(s.path(o), string(o.Path2), buf)
		if n > len(buf) || err != nil {
			return fmt.Sprint(n), err
		}
		return fmt.Sprint(n, " ", digest(buf[:n])), nil
	},
	OpListxattr: func(s *side, o Op) (string, error) {
		names, err := listXattrs(s.path(o))
		return strings.Join(names, ","), err
	},
	OpRmxattr: func(s *side, o Op) (string, error) {
		if o.Flags&noFollow != 0 {
			return "", unix.Lremovexattr(s.path(o), string(o.Path2))
		}
		return "", unix.Removexattr(s.path(o), string(o.Path2))
	},
	OpStat: func(s *side, o Op) (string, error) {
		var st unix.Stat_t
		if err := unix.Fstatat(unix.AT_FDCWD, s.path(o), &st, follow(o)); err != nil {
			return "", err
		}
		return s.describe(&st), nil
	},
	OpAccess: func(s *side, o Op) (string, error) {
		return "", unix.Faccessat2(unix.AT_FDCWD, s.path(o), o.Mode, follow(o))
	},
	OpExec: func(s *side, o Op) (string, error) {
		pid, err := syscall.ForkExec(s.path(o), []string{"x"}, &syscall.ProcAttr{})
		if err != nil {
			return "", err
		}
		var status unix.WaitStatus
		_, err = unix.Wait4(pid, &status, 0, nil)
		return fmt.Sprint("exit ", status.ExitStatus()), err
	},
	OpStatfs: func(s *side, o Op) (string, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(s.path(o), &st); err != nil {
			return "", err
		}
		return fmt.Sprintf("namelen=%d blocks>0=%t free<=all=%t", st.Namelen, st.Blocks > 0, st.Bavail <= st.Blocks), nil
	},
}

// path is where the operation's first path leads.
func (s *side) path(o Op) string {
	if o.Dir == 0 {
		return s.abs(o.Path)
	}
	if f, ok := s.slots[slotKey{o.Actor, o.Dir - 1}]; ok {
		return fmt.Sprintf("/proc/thread-self/fd/%d/%s", f.fd, o.Path)
	}
	return s.abs(o.Path)
}

// listXattrs lists the attributes that a union shares with a plain directory,
// in order.
func listXattrs(path string) ([]string, error) {
	buf := make([]byte, 64<<10)
	n, err := unix.Llistxattr(path, buf)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.SplitSeq(string(buf[:n]), "\x00") {
		if name != "" && !strings.HasPrefix(name, "security.selinux") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// setTimes writes the times that an operation has set.
func (s *side) setTimes(st *unix.Stat_t, o Op) string {
	one := func(got, want unix.Timespec) string {
		switch {
		case want.Nsec == unix.UTIME_OMIT:
			return "kept"
		case got.Sec >= s.freshAfter:
			return "now"
		}
		return fmt.Sprintf("%d.%09d", got.Sec, got.Nsec)
	}
	return "atime=" + one(st.Atim, o.At) + " mtime=" + one(st.Mtim, o.Mt)
}
