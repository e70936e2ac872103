package cow

import (
	"io"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// The content of a file that is copied up block by block: what is in the upper, and what is below still.

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
	if err := f.writeOwn(upper, head, start); err != nil {
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
