package cow

import (
	"io"
	"time"

	"golang.org/x/sys/unix"

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
