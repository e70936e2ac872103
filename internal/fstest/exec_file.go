package fstest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// fileOps are the operations on an open file.
var fileOps = map[Code]func(*side, Op, *openFile) (string, error){
	OpClose: func(s *side, o Op, f *openFile) (string, error) {
		delete(s.slots, slotKey{o.Actor, o.Slot})
		return "", unix.Close(f.fd)
	},
	OpRead: func(_ *side, o Op, f *openFile) (string, error) {
		buf := aligned(o.Len)
		n, err := unix.Read(f.fd, buf)
		return digest(buf[:max(n, 0)]), err
	},
	OpPread: func(_ *side, o Op, f *openFile) (string, error) {
		buf := aligned(o.Len)
		n, err := unix.Pread(f.fd, buf, o.Off)
		return digest(buf[:max(n, 0)]), err
	},
	OpWrite: func(_ *side, o Op, f *openFile) (string, error) {
		n, err := unix.Write(f.fd, bytesOf(o))
		return fmt.Sprint(n), err
	},
	OpPwrite: func(_ *side, o Op, f *openFile) (string, error) {
		n, err := unix.Pwrite(f.fd, bytesOf(o), o.Off)
		return fmt.Sprint(n), err
	},
	OpSeek: func(_ *side, o Op, f *openFile) (string, error) {
		n, err := unix.Seek(f.fd, o.Off, o.Flags)
		return fmt.Sprint(n), err
	},
	OpFtruncate: func(_ *side, o Op, f *openFile) (string, error) { return "", unix.Ftruncate(f.fd, o.Len) },
	OpFallocate: func(_ *side, o Op, f *openFile) (string, error) {
		return "", unix.Fallocate(f.fd, uint32(o.Flags), o.Off, o.Len)
	},
	OpCopyRange: func(s *side, o Op, f *openFile) (string, error) {
		to, ok := s.slots[slotKey{o.Actor, o.Slot2}]
		if !ok {
			return "no second slot", nil
		}
		in, out := o.Off, o.Off2
		n, err := unix.CopyFileRange(f.fd, &in, to.fd, &out, int(o.Len), 0)
		return fmt.Sprint(n), err
	},
	OpFsync:     func(_ *side, _ Op, f *openFile) (string, error) { return "", unix.Fsync(f.fd) },
	OpFdatasync: func(_ *side, _ Op, f *openFile) (string, error) { return "", unix.Fdatasync(f.fd) },
	OpSyncfs:    func(_ *side, _ Op, f *openFile) (string, error) { return "", unix.Syncfs(f.fd) },
	OpFadvise: func(_ *side, o Op, f *openFile) (string, error) {
		return "", unix.Fadvise(f.fd, o.Off, o.Len, o.Flags)
	},
	OpGetflags: func(_ *side, _ Op, f *openFile) (string, error) {
		flags, err := unix.IoctlGetUint32(f.fd, unix.FS_IOC_GETFLAGS)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%#x", flags&(unix.STATX_ATTR_APPEND|unix.STATX_ATTR_IMMUTABLE)), nil
	},
	OpScript: func(_ *side, _ Op, f *openFile) (string, error) {
		if n, err := unix.Pwrite(f.fd, []byte("#!/bin/true\n"), 0); err != nil {
			return fmt.Sprint(n), err
		}
		return "", unix.Fchmod(f.fd, 0o755)
	},
	OpMmap: func(s *side, o Op, f *openFile) (string, error) {
		m, err := unix.Mmap(f.fd, o.Off&^4095, int(o.Len), int(o.Mode), o.Flags)
		if err != nil {
			return "", err
		}
		fd, err := unix.FcntlInt(uintptr(f.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		k := slotKey{o.Actor, o.Slot2}
		if old, ok := s.maps[k]; ok {
			old.close()
		}
		s.maps[k] = &mapping{mem: m, off: o.Off &^ 4095, fd: fd}
		return "", nil
	},
	OpLinkF: func(s *side, o Op, f *openFile) (string, error) {
		return "", unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/thread-self/fd/%d", f.fd), unix.AT_FDCWD, s.path(o), unix.AT_SYMLINK_FOLLOW)
	},
	OpFchmod: func(_ *side, o Op, f *openFile) (string, error) { return "", unix.Fchmod(f.fd, o.Mode) },
	OpFchown: func(_ *side, o Op, f *openFile) (string, error) { return "", unix.Fchown(f.fd, o.UID, o.GID) },
	OpFutimes: func(s *side, o Op, f *openFile) (string, error) {
		if err := futimens(f.fd, [2]unix.Timespec{o.At, o.Mt}); err != nil {
			return "", err
		}
		var st unix.Stat_t
		err := unix.Fstat(f.fd, &st)
		return s.setTimes(&st, o), err
	},
	OpFsetxattr: func(_ *side, o Op, f *openFile) (string, error) {
		return "", unix.Fsetxattr(f.fd, string(o.Path2), valueOf(o), o.Flags&3)
	},
	OpFstat: func(s *side, _ Op, f *openFile) (string, error) {
		var st unix.Stat_t
		if err := unix.Fstat(f.fd, &st); err != nil {
			return "", err
		}
		return s.describe(&st), nil
	},
	OpFlock: func(_ *side, o Op, f *openFile) (string, error) {
		return "", unix.Flock(f.fd, o.Flags|unix.LOCK_NB)
	},
	OpSetlk: func(_ *side, o Op, f *openFile) (string, error) {
		lk := unix.Flock_t{Type: int16(o.Mode), Start: o.Off, Len: o.Len}
		return "", unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_SETLK, &lk)
	},
	OpGetlk: func(_ *side, o Op, f *openFile) (string, error) {
		lk := unix.Flock_t{Type: int16(o.Mode), Start: o.Off, Len: o.Len}
		err := unix.FcntlFlock(uintptr(f.fd), unix.F_OFD_GETLK, &lk)
		if err == nil && lk.Type == unix.F_UNLCK {
			return "free", nil
		}
		return fmt.Sprint(lk.Type, lk.Start, lk.Len), err
	},
	OpReaddir: func(_ *side, o Op, f *openFile) (string, error) { return "", f.readdir(int(o.Len)) },
	OpSeekdir: func(_ *side, o Op, f *openFile) (string, error) { return "", f.seekdir(int(o.Off)) },
}

// mapOps are the operations on a mapping.
var mapOps = map[Code]func(*side, Op, *mapping) (string, error){
	OpMapRead: func(_ *side, o Op, m *mapping) (string, error) {
		return digest(append([]byte(nil), m.clip(o.Off, o.Len)...)), nil
	},
	OpMapWrite: func(_ *side, o Op, m *mapping) (string, error) {
		copy(m.clip(o.Off, o.Len), bytesOf(o))
		if o.Flags != 0 {
			return "", unix.Msync(m.mem, unix.MS_SYNC)
		}
		return "", nil
	},
	OpMunmap: func(s *side, o Op, m *mapping) (string, error) {
		delete(s.maps, slotKey{o.Actor, o.Slot2})
		return "", m.close()
	},
}
