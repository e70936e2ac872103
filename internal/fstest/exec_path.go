package fstest

import (
	"fmt"
	"slices"
	"strings"

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
		fd, err := unix.Open(s.abs(o.Path), o.Flags|unix.O_NONBLOCK|unix.O_CLOEXEC, o.Mode)
		return "", s.put(o, fd, err)
	},
	OpOpendir: func(s *side, o Op) (string, error) {
		fd, err := unix.Open(s.abs(o.Path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err := s.put(o, fd, err); err != nil {
			return "", err
		}
		s.slots[slotKey{o.Actor, o.Slot}].dir = newDirStream()
		return "", nil
	},
	OpTmpfile: func(s *side, o Op) (string, error) {
		fd, err := unix.Open(s.abs(o.Path), o.Flags|unix.O_TMPFILE|unix.O_CLOEXEC, o.Mode)
		return "", s.put(o, fd, err)
	},
	OpTruncate: func(s *side, o Op) (string, error) { return "", unix.Truncate(s.abs(o.Path), o.Len) },
	OpLink: func(s *side, o Op) (string, error) {
		flags := unix.AT_SYMLINK_FOLLOW
		if o.Flags&noFollow != 0 {
			flags = 0
		}
		return "", unix.Linkat(unix.AT_FDCWD, s.abs(o.Path), unix.AT_FDCWD, s.abs(o.Path2), flags)
	},
	OpUnlink: func(s *side, o Op) (string, error) { return "", unix.Unlink(s.abs(o.Path)) },
	OpMkdir:  func(s *side, o Op) (string, error) { return "", unix.Mkdir(s.abs(o.Path), o.Mode) },
	OpRmdir:  func(s *side, o Op) (string, error) { return "", unix.Rmdir(s.abs(o.Path)) },
	OpRename: func(s *side, o Op) (string, error) {
		return "", unix.Renameat2(unix.AT_FDCWD, s.abs(o.Path), unix.AT_FDCWD, s.abs(o.Path2), uint(o.Flags))
	},
	OpSymlink: func(s *side, o Op) (string, error) { return "", unix.Symlink(string(o.Path2), s.abs(o.Path)) },
	OpReadlink: func(s *side, o Op) (string, error) {
		buf := make([]byte, 4096)
		n, err := unix.Readlink(s.abs(o.Path), buf)
		return string(buf[:max(n, 0)]), err
	},
	OpMknod: func(s *side, o Op) (string, error) {
		return "", unix.Mknod(s.abs(o.Path), o.Mode, int(o.Off))
	},
	OpChmod: func(s *side, o Op) (string, error) { return "", unix.Chmod(s.abs(o.Path), o.Mode) },
	OpChown: func(s *side, o Op) (string, error) {
		return "", unix.Fchownat(unix.AT_FDCWD, s.abs(o.Path), o.UID, o.GID, follow(o))
	},
	OpUtimes: func(s *side, o Op) (string, error) {
		p := s.abs(o.Path)
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{o.At, o.Mt}, follow(o)); err != nil {
			return "", err
		}
		var st unix.Stat_t
		err := unix.Fstatat(unix.AT_FDCWD, p, &st, follow(o))
		return s.setTimes(&st, o), err
	},
	OpSetxattr: func(s *side, o Op) (string, error) {
		if o.Flags&noFollow != 0 {
			return "", unix.Lsetxattr(s.abs(o.Path), string(o.Path2), bytesOf(o), o.Flags&3)
		}
		return "", unix.Setxattr(s.abs(o.Path), string(o.Path2), bytesOf(o), o.Flags&3)
	},
	OpGetxattr: func(s *side, o Op) (string, error) {
		buf := make([]byte, o.Len)
		get := unix.Getxattr
		if o.Flags&noFollow != 0 {
			get = unix.Lgetxattr
		}
		n, err := get(s.abs(o.Path), string(o.Path2), buf)
		if n > len(buf) || err != nil {
			return fmt.Sprint(n), err
		}
		return fmt.Sprint(n, " ", digest(buf[:n])), nil
	},
	OpListxattr: func(s *side, o Op) (string, error) {
		names, err := listXattrs(s.abs(o.Path))
		return strings.Join(names, ","), err
	},
	OpRmxattr: func(s *side, o Op) (string, error) {
		if o.Flags&noFollow != 0 {
			return "", unix.Lremovexattr(s.abs(o.Path), string(o.Path2))
		}
		return "", unix.Removexattr(s.abs(o.Path), string(o.Path2))
	},
	OpStat: func(s *side, o Op) (string, error) {
		var st unix.Stat_t
		if err := unix.Fstatat(unix.AT_FDCWD, s.abs(o.Path), &st, follow(o)); err != nil {
			return "", err
		}
		return s.describe(&st), nil
	},
	OpAccess: func(s *side, o Op) (string, error) {
		return "", unix.Faccessat2(unix.AT_FDCWD, s.abs(o.Path), o.Mode, follow(o))
	},
	OpStatfs: func(s *side, o Op) (string, error) {
		var st unix.Statfs_t
		if err := unix.Statfs(s.abs(o.Path), &st); err != nil {
			return "", err
		}
		return fmt.Sprintf("namelen=%d blocks>0=%t free<=all=%t", st.Namelen, st.Blocks > 0, st.Bavail <= st.Blocks), nil
	},
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
