package sys

import (
	"io"

	"golang.org/x/sys/unix"
)

// Rename is renameat2.
func Rename(olddir int, oldname string, newdir int, newname string, flags uint) error {
	return Retry(func() error {
		return unix.Renameat2(olddir, oldname, newdir, newname, flags)
	})
}

// Reflink makes dst share all blocks of src where the filesystem can.
func Reflink(dst, src int) error {
	return unix.IoctlFileClone(dst, src)
}

// CopyRange copies length bytes at off from src to the same place in dst,
// through the kernel where it can, else through a buffer.
func CopyRange(dst, src int, off, length int64) error {
	for length > 0 {
		in, out := off, off
		n, err := unix.CopyFileRange(src, &in, dst, &out, int(min(length, 1<<30)), 0)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.EXDEV, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP, unix.EPERM, unix.ETXTBSY:
			return copyBuffered(dst, src, off, length)
		default:
			return err
		}
		if n == 0 {
			return nil
		}
		off += int64(n)
		length -= int64(n)
	}
	return nil
}

func copyBuffered(dst, src int, off, length int64) error {
	buf := make([]byte, min(length, 1<<20))
	for length > 0 {
		n, err := Pread(src, buf[:min(length, int64(len(buf)))], off)
		if n > 0 {
			if err := PwriteFull(dst, buf[:n], off); err != nil {
				return err
			}
		}
		if err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
		off += int64(n)
		length -= int64(n)
	}
	return nil
}

// CopyData copies size bytes of src to dst and keeps its holes.
func CopyData(dst, src int, size int64) error {
	if err := unix.Ftruncate(dst, size); err != nil {
		return err
	}
	for off := int64(0); off < size; {
		start, err := unix.Seek(src, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			return CopyRange(dst, src, off, size-off)
		}
		end, err := unix.Seek(src, start, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		end = min(end, size)
		if start >= end {
			return nil
		}
		if err := CopyRange(dst, src, start, end-start); err != nil {
			return err
		}
		off = end
	}
	return nil
}

// Pread fills buf from off; io.EOF says that the file ended first.
func Pread(fd int, buf []byte, off int64) (int, error) {
	done := 0
	for done < len(buf) {
		n, err := unix.Pread(fd, buf[done:], off+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

// PwriteFull writes all of buf at off.
func PwriteFull(fd int, buf []byte, off int64) error {
	for len(buf) > 0 {
		n, err := unix.Pwrite(fd, buf, off)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		buf = buf[n:]
		off += int64(n)
	}
	return nil
}

// Close closes a descriptor; errors of close(2) say nothing that can be acted
// on for files that were synced or only read.
func Close(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
