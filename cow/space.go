package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// Fallocate is fallocate(2) with the modes that the upper's filesystem has and
// FUSE passes on.
func (f *FS) Fallocate(n *Node, mode uint32, off, length int64, kill bool) error {
	if mode&(unix.FALLOC_FL_COLLAPSE_RANGE|unix.FALLOC_FL_INSERT_RANGE) != 0 {
		return unix.EOPNOTSUPP // the kernel does not pass these on
	}
	c, err := f.openForChange(n, true, kill)
	if err != nil {
		return err
	}
	defer c.put()
	if c.part != nil && mode&^unix.FALLOC_FL_KEEP_SIZE != 0 {
		defer f.markDirty(n) // afterwards, as in writeTo
		c.part.mu.Lock()
		defer c.part.mu.Unlock()
		if err := c.part.fill(f, c.fd); err != nil {
			return err
		}
	}
	return sys.Retry(func() error { return unix.Fallocate(c.fd, mode, off, length) })
}

// Seek finds data or a hole: whence is SEEK_DATA or SEEK_HOLE.
func (f *FS) Seek(n *Node, off int64, whence int) (int64, error) {
	f.tree.RLock()
	c, err := f.open(n)
	f.tree.RUnlock()
	if err != nil {
		return 0, err
	}
	defer c.put()
	if c.part == nil {
		return unix.Seek(c.fd, off, whence)
	}
	return c.part.seek(f, c.fd, off, whence)
}

// seek finds data or a hole across both places.
func (p *partly) seek(f *FS, upper int, off int64, whence int) (int64, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var st unix.Stat_t
	if err := unix.Fstat(upper, &st); err != nil {
		return 0, err
	}
	if off < 0 || off >= st.Size {
		return 0, unix.ENXIO
	}
	lower, err := p.lowerFD(f)
	if err != nil {
		return 0, err
	}
	defer f.fds.put(&p.fd, lower)
	for off < st.Size {
		end, inUpper := p.run(off, st.Size)
		fd := upper
		if !inUpper {
			fd = lower
		}
		pos, err := unix.Seek(fd, off, whence)
		switch {
		case err == nil && pos < end:
			return pos, nil
		case err != nil && err != unix.ENXIO:
			return 0, err
		}
		off = end
	}
	if whence == unix.SEEK_HOLE {
		return st.Size, nil
	}
	return 0, unix.ENXIO
}

// CopyRange copies up to length bytes between two files and gives how many; 0
// means that src ends at srcOff.
func (f *FS) CopyRange(src *Node, srcOff int64, dst *Node, dstOff, length int64, kill bool) (int64, error) {
	to, err := f.openForChange(dst, true, kill)
	if err != nil {
		return 0, err
	}
	defer to.put()
	f.tree.RLock()
	from, err := f.open(src)
	f.tree.RUnlock()
	if err != nil {
		return 0, err
	}
	defer from.put()
	if from.part == nil && to.part == nil {
		in, out := srcOff, dstOff
		n, err := unix.CopyFileRange(from.fd, &in, to.fd, &out, int(min(length, 1<<30)), 0)
		if err != unix.EXDEV && err != unix.EOPNOTSUPP && err != unix.ENOSYS {
			return int64(n), err
		}
	}
	return f.copyBetween(src, srcOff, dst, dstOff, min(length, 1<<20))
}

// copyBetween copies one buffer through the union's own reads and writes.
func (f *FS) copyBetween(src *Node, srcOff int64, dst *Node, dstOff, length int64) (int64, error) {
	if src == dst && srcOff < dstOff+length && dstOff < srcOff+length {
		return 0, unix.EINVAL
	}
	buf := make([]byte, length)
	n, err := f.Read(src, buf, srcOff)
	if err != nil || n == 0 {
		return 0, err
	}
	if err := f.Write(dst, buf[:n], dstOff, false); err != nil {
		return 0, err
	}
	return int64(n), nil
}
