package cow

import (
	"io"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// Read fills buf with content from off and gives how much there was; less than
// len(buf) means the end of the file.
func (f *FS) Read(n *Node, buf []byte, off int64) (int, error) {
	return f.read(n, buf, off, func(fd int) (int, error) { return sys.Pread(fd, buf, off) })
}

// ReadQuietly is Read that leaves the access time of a file in the upper alone, if this process may.
func (f *FS) ReadQuietly(n *Node, buf []byte, off int64) (int, error) {
	return f.read(n, buf, off, func(fd int) (int, error) {
		quiet, err := sys.Reopen(fd, unix.O_RDONLY|unix.O_NOATIME)
		if err != nil {
			return sys.Pread(fd, buf, off)
		}
		defer sys.Close(quiet)
		return sys.Pread(quiet, buf, off)
	})
}

// read is Read with what reads a file that lies in one layer.
func (f *FS) read(n *Node, buf []byte, off int64, whole func(fd int) (int, error)) (int, error) {
	f.tree.RLock()
	if off == 0 {
		f.aheadOfRead(n)
		defer f.noteRead(time.Now(), len(buf))
	}
	c, err := f.open(n)
	f.tree.RUnlock()
	if err != nil {
		return 0, err
	}
	defer c.put()
	if c.part != nil {
		return c.part.read(f, c.fd, buf, off)
	}
	done, err := whole(c.fd)
	if err == io.EOF {
		err = nil
	}
	return done, err
}

// Write writes all of data at off. kill says that the writer has not the
// privilege to keep set-id bits.
func (f *FS) Write(n *Node, data []byte, off int64, kill bool) error {
	c, err := f.openForChange(n, true, kill)
	if err != nil {
		return err
	}
	defer c.put()
	if err := f.writeTo(n, c, data, off); err != nil || kill {
		return err
	}
	return f.giveBitsBack(n, c.fd)
}

// WritePages is Write of what a process has changed through a mapping, which
// takes no privileges, as on other filesystems: it is the kernel that writes,
// some time later.
func (f *FS) WritePages(n *Node, data []byte, off int64) error {
	c, err := f.openChanged(n, true, false, false)
	if err != nil {
		return err
	}
	defer c.put()
	if !f.hasRealCaps(n) {
		if err := f.writeTo(n, c, data, off); err != nil {
			return err
		}
		return f.giveBitsBack(n, c.fd)
	}
	// One at a time: a second one would find none while the first is at it.
	f.capsMu.Lock()
	defer f.capsMu.Unlock()
	caps, err := sys.GetxattrAll(c.fd, "", capXattr)
	if err != nil {
		return f.writeTo(n, c, data, off)
	}
	if err := f.writeTo(n, c, data, off); err != nil {
		return err
	}
	if err := f.giveBitsBack(n, c.fd); err != nil {
		return err
	}
	return f.giveCapsBack(n, c.fd, caps)
}

// hasRealCaps tells whether n has capabilities that the disk knows, and takes
// from a file that is written to.
func (f *FS) hasRealCaps(n *Node) bool {
	f.tree.RLock()
	defer f.tree.RUnlock()
	return n.flags&flagCap != 0 && f.upper.owners == OwnersReal
}

// giveCapsBack sets the capabilities that n had before a write, unless someone
// has removed or replaced them since.
func (f *FS) giveCapsBack(n *Node, fd int, caps []byte) error {
	f.tree.Lock()
	defer f.tree.Unlock()
	if n.flags&flagCap == 0 {
		return nil
	}
	err := sys.Setxattr(fd, "", capXattr, caps, unix.XATTR_CREATE)
	if err == unix.EEXIST {
		return nil
	}
	return err
}

// giveBitsBack sets the set-id bits of n again, which the disk takes where
// owners are real and this process has not the privilege to keep them.
func (f *FS) giveBitsBack(n *Node, fd int) error {
	if f.upper.owners != OwnersReal {
		return nil
	}
	f.tree.RLock()
	has := n.meta.Mode&(unix.S_ISUID|unix.S_ISGID) != 0
	f.tree.RUnlock()
	if !has {
		return nil
	}
	f.tree.Lock()
	defer f.tree.Unlock()
	return f.setMetaReal(fd, "", n.meta)
}

// writeTo writes to content that is open.
func (f *FS) writeTo(n *Node, c content, data []byte, off int64) error {
	if c.part != nil {
		defer f.markDirty(n) // afterwards: a sync at the same time may miss it
		return c.part.write(f, c.fd, data, off)
	}
	return sys.PwriteFull(c.fd, data, off)
}

// openForChange copies n up if need be, drops the privileges that its content
// had, and pins the content for writing. keep is as for copyUp.
func (f *FS) openForChange(n *Node, keep, kill bool) (content, error) {
	return f.openChanged(n, keep, true, kill)
}

// openChanged is openForChange that drops privileges if drop is set.
func (f *FS) openChanged(n *Node, keep, drop, kill bool) (content, error) {
	f.tree.RLock()
	if !f.inUpper(n) || drop && f.losesPrivilege(n, kill) || f.cfg.Observe {
		apart := keep && f.copiesApart(n)
		f.tree.RUnlock()
		if apart {
			if err := f.copyUpApart(n); err != nil {
				return content{}, err
			}
		}
		f.tree.Lock()
		err := f.copyUp(n, keep)
		if err == nil && drop {
			err = f.dropPrivilege(n, kill)
		}
		f.tree.Unlock()
		if err != nil {
			return content{}, err
		}
		f.tree.RLock()
	}
	defer f.tree.RUnlock()
	return f.open(n)
}

// losesPrivilege tells whether a write must clear set-id bits or the file's
// capabilities first.
func (f *FS) losesPrivilege(n *Node, kill bool) bool {
	return n.flags&flagCap != 0 || kill && killsBits(n.meta.Mode) != 0
}

// killsBits gives the mode bits that a change by an unprivileged process
// clears: set-user-id, and set-group-id where it means that.
func killsBits(mode uint32) uint32 {
	bits := mode & unix.S_ISUID
	if mode&unix.S_IXGRP != 0 {
		bits |= mode & unix.S_ISGID
	}
	return bits
}

// dropPrivilege does what losesPrivilege found. Needs FS.tree exclusively; n
// is in the upper.
func (f *FS) dropPrivilege(n *Node, kill bool) error {
	if n.flags&flagCap != 0 {
		if err := f.removeXattr(n, capXattr); err != nil && err != unix.ENODATA {
			return err
		}
		n.flags &^= flagCap
	}
	if bits := killsBits(n.meta.Mode); kill && bits != 0 {
		m := n.meta
		m.Mode &^= bits
		return f.changeMeta(n, m)
	}
	return nil
}

// read assembles content from both places.
func (p *partly) read(f *FS, upper int, buf []byte, off int64) (int, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var st unix.Stat_t
	if err := unix.Fstat(upper, &st); err != nil {
		return 0, err
	}
	if off >= st.Size {
		return 0, nil
	}
	buf = buf[:min(int64(len(buf)), st.Size-off)]
	lower := -1
	defer func() {
		if lower >= 0 {
			f.fds.put(&p.fd, lower)
		}
	}()
	for done := 0; done < len(buf); {
		end, inUpper := p.run(off+int64(done), off+int64(len(buf)))
		part := buf[done : end-off]
		fd := upper
		if !inUpper {
			if lower < 0 {
				var err error
				if lower, err = p.lowerFD(f); err != nil {
					return done, err
				}
			}
			fd = lower
		}
		if _, err := sys.Pread(fd, part, off+int64(done)); err != nil {
			if err == io.EOF {
				err = unix.EIO // the lower file is shorter than it was
			}
			return done, err
		}
		done += len(part)
	}
	return len(buf), nil
}

// run gives the end of the stretch from off, at most limit, that lies in one
// place, and whether that is the upper.
func (p *partly) run(off, limit int64) (end int64, inUpper bool) {
	if off >= p.lowerEnd {
		return limit, true
	}
	limit = min(limit, p.lowerEnd)
	if p.m == nil {
		return limit, false
	}
	shift := p.m.shift
	last := (limit + 1<<shift - 1) >> shift
	block, inUpper := p.m.run(off>>shift, last)
	return min(block<<shift, limit), inUpper
}

// write puts data in the upper. The blocks at its two ends are completed from
// the lower file in the same write, so that no block is ever half new.
func (p *partly) write(f *FS, upper int, data []byte, off int64) error {
	if len(data) == 0 {
		return nil
	}
	end := off + int64(len(data))
	p.mu.RLock()
	if p.covers(off, end) && !p.tears(off, end) {
		defer p.mu.RUnlock()
		return sys.PwriteFull(upper, data, off)
	}
	p.mu.RUnlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.needMap(f, upper); err != nil {
		return err
	}
	if !f.cfg.Volatile && p.tears(off, end) {
		if err := p.syncLocked(f, upper); err != nil {
			return err
		}
	}
	shift := p.m.shift
	first, last := off>>shift, (end+1<<shift-1)>>shift
	start, stop := off, end
	if off < p.lowerEnd && !p.m.has(first) {
		start = first << shift
	}
	if end < p.lowerEnd && !p.m.has(last-1) {
		stop = min(last<<shift, p.lowerEnd)
	}
	if start < off || stop > end {
		whole := make([]byte, stop-start)
		if err := p.readLower(f, whole[:off-start], start); err != nil {
			return err
		}
		if err := p.readLower(f, whole[end-start:], end); err != nil {
			return err
		}
		copy(whole[off-start:], data)
		data, off = whole, start
	}
	if err := sys.PwriteFull(upper, data, off); err != nil {
		return err
	}
	if off < p.lowerEnd { // else the block may still have lower bytes before off
		p.m.set(first, last)
	}
	return nil
}

// covers tells whether all that lies in [off, end) is in the upper.
func (p *partly) covers(off, end int64) bool {
	if p.m == nil || off >= p.lowerEnd {
		return p.m != nil
	}
	end = min(end, p.lowerEnd)
	stop, inUpper := p.run(off, end)
	return inUpper && stop >= end
}

// tears tells whether after a write to [off, end) the block in which the lower
// content ends would have changes on both sides of that end that are not
// synced: a power loss could then take back one and keep the other.
func (p *partly) tears(off, end int64) bool {
	if p.m == nil {
		return false
	}
	edge, shift := p.m.syncedEnd(), p.m.shift
	block := edge >> shift
	if edge == block<<shift || end <= edge || off >= (block+1)<<shift || p.m.synced(block) {
		return false
	}
	return off < edge || p.m.has(block) || p.lowerEnd < edge
}

// finishEdge completes the block in which the lower content ends if the file
// goes on in it, or always: both sides then become durable as one.
func (p *partly) finishEdge(f *FS, upper int, always bool) error {
	shift := p.m.shift
	block := p.lowerEnd >> shift
	start := block << shift
	if start == p.lowerEnd || p.m.has(block) {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(upper, &st); err != nil || st.Size <= p.lowerEnd && !always {
		return err
	}
	head := make([]byte, p.lowerEnd-start)
	if err := p.readLower(f, head, start); err != nil {
		return err
	}
	if err := sys.PwriteFull(upper, head, start); err != nil {
		return err
	}
	p.m.set(block, block+1)
	// Nobody has changed the file: it keeps the time that may have been set.
	return ondisk.SetTimes(upper, "", st.Atim, st.Mtim)
}

// readLower fills buf from the lower file.
func (p *partly) readLower(f *FS, buf []byte, off int64) error {
	if len(buf) == 0 {
		return nil
	}
	fd, err := p.lowerFD(f)
	if err != nil {
		return err
	}
	defer f.fds.put(&p.fd, fd)
	_, err = sys.Pread(fd, buf, off)
	if err == io.EOF {
		return unix.EIO
	}
	return err
}

// needMap makes the block map when the first block goes to the upper, and
// records it on the file. Needs p.mu exclusively.
func (p *partly) needMap(f *FS, upper int) error {
	if p.m != nil {
		return nil
	}
	m, err := f.createMap(p.record.size, p.lowerEnd)
	if err != nil {
		return err
	}
	record := p.record
	record.state, record.arg = stateNew, m.id
	if err := f.writeOrigin(upper, "", record); err != nil {
		m.close()
		_ = unix.Unlinkat(f.work.maps, m.id, 0)
		return err
	}
	p.m, p.record = m, record
	return nil
}

// truncate changes the size. What lies past a smaller size never comes back
// from the lower file.
func (p *partly) truncate(f *FS, upper int, size int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if size >= p.lowerEnd {
		return unix.Ftruncate(upper, size)
	}
	if err := p.needMap(f, upper); err != nil {
		return err
	}
	if err := unix.Ftruncate(upper, size); err != nil {
		return err
	}
	p.lowerEnd = size
	p.m.setLowerEnd(size)
	return nil
}

// fill copies what is still below, for operations that work on the upper file
// alone. Needs p.mu exclusively.
func (p *partly) fill(f *FS, upper int) error {
	if err := p.needMap(f, upper); err != nil {
		return err
	}
	fd, err := p.lowerFD(f)
	if err != nil {
		return err
	}
	defer f.fds.put(&p.fd, fd)
	for off := int64(0); off < p.lowerEnd; {
		end, inUpper := p.run(off, p.lowerEnd)
		if !inUpper {
			// A write that was lost with its map may have left content here.
			if punch(upper, off, end-off) != nil {
				err = sys.CopyRange(upper, fd, off, end-off)
			} else {
				err = copyExtent(upper, fd, off, end)
			}
			if err != nil {
				return err
			}
			p.m.set(off>>p.m.shift, (end+1<<p.m.shift-1)>>p.m.shift)
		}
		off = end
	}
	return nil
}

// punch makes a hole.
func punch(fd int, off, length int64) error {
	if length == 0 {
		return nil
	}
	return sys.Retry(func() error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, length)
	})
}

// copyExtent copies [off, end) and leaves out the holes of src, which are
// holes in dst already.
func copyExtent(dst, src int, off, end int64) error {
	for off < end {
		data, err := unix.Seek(src, off, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return nil
		}
		if err != nil {
			return sys.CopyRange(dst, src, off, end-off)
		}
		hole, err := unix.Seek(src, data, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if data >= end {
			return nil
		}
		if err := sys.CopyRange(dst, src, data, min(hole, end)-data); err != nil {
			return err
		}
		off = hole
	}
	return nil
}
