package cow

import (
	"fmt"
	"math/bits"
	"sync"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// partly is the state of a regular file whose content is spread over the upper
// and the lower layer it came from. Bytes at or past lowerEnd and blocks that
// the map has are in the upper, all others in the lower file.
//
// The map on disk may only lag the data. A block gets its bit in the live half
// of the map as soon as it is written: that half holds for this boot, whatever
// becomes of the process. It gets its bit in the synced half only after the
// data is known to be on disk: that half holds for ever. So after a power loss
// a block is either wholly new or wholly old.
type partly struct {
	mu       sync.RWMutex // exclusive: to add blocks; guards all below
	lower    place
	record   origin // as on disk
	blocks   int64  // st_blocks of the lower file
	lowerEnd int64
	fd       fdEntry   // of the lower file
	m        *blockMap // nil: no block is in the upper yet
}

// newPartly describes a copy that has no content in the upper yet.
func newPartly(lower place, record origin, st *unix.Statx_t) *partly {
	return &partly{lower: lower, record: record, lowerEnd: int64(st.Size), blocks: int64(st.Blocks)}
}

// loadPartly restores the state of a file that was copied up earlier; fd and
// name are its object in the upper, st the status. Needs FS.tree.
func (f *FS) loadPartly(n *Node, o origin, fd int, name string, st *unix.Statx_t) error {
	if o.layer >= len(f.cfg.Lowers) {
		return fmt.Errorf("read origin of %q: no layer %d: %w", name, o.layer, unix.EIO)
	}
	if o.state == stateBoot && o.arg == f.work.boot {
		if !f.cfg.Observe {
			f.markDirty(n)
		}
		return nil
	}
	l := f.layers[len(f.layers)-1-o.layer]
	lower, err := f.lowerPlace(l, o.path)
	if err != nil {
		return fmt.Errorf("find %q, from which %q was copied up: %w", o.path, name, err)
	}
	var lst unix.Statx_t
	if err := f.statPlace(lower.dir, lower.name, &lst); err != nil {
		return err
	}
	if int64(lst.Size) != o.size {
		return fmt.Errorf("read origin of %q: %q has %d bytes, had %d: %w", name, o.path, lst.Size, o.size, unix.EIO)
	}
	if o.state == stateBoot {
		if f.cfg.Observe {
			// To throw the copy away is not the observer's.
			n.back, *st = lower, lst
			return nil
		}
		if err := f.revert(fd, name, &o, st); err != nil {
			return err
		}
	}
	p := newPartly(lower, o, &lst)
	if o.state == stateNew || o.state == stateMap {
		p.m, err = f.openMap(o.arg)
		switch {
		case err == nil:
			p.lowerEnd = p.m.lowerEnd()
			f.markDirty(n)
		case err == errLostMap && o.state == stateNew:
			p.record.state, p.record.arg = stateMeta, ""
		case err == errLostMap:
			return fmt.Errorf("open block map %s of %q: %w: %w", o.arg, name, err, unix.EIO)
		default:
			return fmt.Errorf("open block map of %q: %w", name, err)
		}
	}
	if int64(st.Size) < p.lowerEnd {
		if err := f.shortened(p, fd, name, int64(st.Size)); err != nil {
			p.close(f)
			return fmt.Errorf("record size of %q: %w", name, err)
		}
	}
	file := f.fileLocked(n)
	file.part = p
	n.flags |= flagPartly
	return nil
}

// shortened takes note of a truncation that reached the disk while the map
// that says so did not: what it cut off must not come back with a larger size.
func (f *FS) shortened(p *partly, dirfd int, name string, size int64) error {
	p.lowerEnd = size
	if f.cfg.Observe {
		return nil
	}
	if p.m != nil && !p.m.reborn {
		p.m.setLowerEnd(size)
		return nil
	}
	fd, err := sys.Open(dirfd, name, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	if err := p.needMap(f, fd); err != nil {
		return err
	}
	p.m.setLowerEnd(size)
	return p.syncLocked(f, fd)
}

// revert throws away the content of a copy that a crash of the machine may
// have left incomplete: the lower file has the last content that was known to
// be on disk.
func (f *FS) revert(fd int, name string, o *origin, st *unix.Statx_t) error {
	file, err := sys.Open(fd, name, unix.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer sys.Close(file)
	// The size comes before the record that makes it count.
	if err := unix.Ftruncate(file, o.size); err != nil {
		return err
	}
	if err := f.cfg.machine.fsync(file); err != nil {
		return err
	}
	o.state, o.arg = stateMeta, ""
	if err := f.writeOrigin(fd, name, *o); err != nil {
		return err
	}
	_ = punch(file, 0, o.size) // for the space alone
	return sys.Stat(file, "", st)
}

// lowerPlace refers to a path in a layer.
func (f *FS) lowerPlace(l *layer, path string) (place, error) {
	fd, err := f.use(l.root)
	if err != nil {
		return place{}, err
	}
	defer f.done(l.root, fd)
	check, err := sys.OpenBeneath(fd, path, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return place{}, err
	}
	sys.Close(check)
	d := l.root
	for {
		head, rest, more := cutSlash(path)
		if !more {
			return place{d, head}, nil
		}
		d, path = d.sub(f.fds, head), rest
	}
}

func cutSlash(path string) (head, rest string, more bool) {
	for i := range len(path) {
		if path[i] == '/' {
			return path[:i], path[i+1:], true
		}
	}
	return path, "", false
}

// path is the place's path in its layer.
func (p place) path() string {
	if up := p.dir.path(); up != "." {
		return up + "/" + p.name
	}
	return p.name
}

// lowerOpener opens the lower file of a partly copied one.
type lowerOpener struct {
	f *FS
	p place
}

func (o lowerOpener) openFD() (int, error) {
	fd, err := o.f.use(o.p.dir)
	if err != nil {
		return -1, err
	}
	defer o.f.done(o.p.dir, fd)
	return o.f.fds.room(func() (int, error) { return openLower(fd, o.p.name) })
}

// lowerFD pins the lower file's descriptor. It needs no FS.tree: lower places
// never change.
func (p *partly) lowerFD(f *FS) (int, error) {
	return f.fds.get(&p.fd, lowerOpener{f, p.lower})
}

// close lets go of descriptors and of the map.
func (p *partly) close(f *FS) {
	f.fds.drop(&p.fd)
	if p.m != nil {
		p.m.close()
	}
}

// partlyAttr corrects what the sparse upper file says of its blocks.
func (f *FS) partlyAttr(n *Node, out *Attr) {
	f.linkMu.Lock()
	p := n.file.part
	f.linkMu.Unlock()
	if p == nil {
		return
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.m == nil {
		out.Blocks = max(out.Blocks, min(p.blocks, (out.Size+511)/512))
	} else {
		out.Blocks = max(out.Blocks, min(out.Blocks+p.blocks, (out.Size+511)/512))
	}
}

// blockShift chooses the block size for a file: 4 KiB, and larger where the
// map would have over 2^19 bits.
func blockShift(size int64) uint {
	return uint(max(12, bits.Len64(uint64(size))-19))
}
