package fstest

import (
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// step does one operation on both sides and compares what they gave.
func (r *run) step(o Op) error {
	switch o.Code {
	case OpRemount:
		r.results = append(r.results, Result{Ran: true})
		if err := r.remount(); err != nil {
			return err
		}
		return r.compare(true)
	case OpCrash:
		r.results = append(r.results, Result{Ran: true})
		if err := r.crash(); err != nil {
			return err
		}
		return r.compare(true)
	case OpForget:
		r.results = append(r.results, Result{Ran: true})
		unix.Sync()
		return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
	}
	if r.escapes(o) || r.opensDevice(o) || r.failsWithWhiteout(o) {
		r.results = append(r.results, Result{})
		return nil
	}
	r.touch(o)
	if (o.Code == OpSeek || o.Code == OpRead) && r.onDirectory(o) {
		r.results = append(r.results, Result{})
		return nil // positions in directories are each filesystem's own
	}
	if o.Code == OpSeek && o.Flags >= unix.SEEK_DATA {
		return r.seekHole(o)
	}
	if o.Code == OpUmask {
		unix.Umask(int(o.Mode))
		r.results = append(r.results, Result{Ran: true})
		return nil
	}
	var a, b Result
	act := r.actors[o.Actor]
	act.do(func() { a = r.plain.exec(o) })
	act.do(func() { b = r.union.exec(o) })
	r.results = append(r.results, a)
	if a != b {
		if word := r.tolerated(o, a, b); word == "" {
			return r.fail("%s: plain %s, union %s", o, a, b)
		}
	}
	if a.Ran && a.Errno == 0 {
		return r.streams(o)
	}
	return nil
}

func (r *run) tolerated(o Op, a, b Result) string {
	word := ""
	switch {
	case r.seekInRemoved(o, a, b):
		word = "seekdir in a removed directory"
	case r.opt.Tolerate != nil:
		word = r.opt.Tolerate(o, a, b)
	}
	if word != "" && r.opt.Known != nil {
		r.opt.Known(word)
	}
	return word
}

// seekInRemoved tells whether a seekdir failed on the plain side because its
// directory is removed: ext4 sets the size of such a one to 0, and refuses
// cookies beyond the size. Nothing can be read there any more, wherever the
// position is.
func (r *run) seekInRemoved(o Op, a, b Result) bool {
	if o.Code != OpSeekdir || a.Errno != unix.EINVAL || !b.Ran || b.Errno != 0 {
		return false
	}
	var st unix.Stat_t
	return unix.Fstat(r.plain.slots[slotKey{o.Actor, o.Slot}].fd, &st) == nil && st.Nlink == 0
}

// escapes tells whether the operation would work on something outside, or on
// the name of the root, which only a mountpoint refuses.
func (r *run) escapes(o Op) bool {
	switch o.Code {
	case OpRmdir, OpUnlink, OpRename:
		if len(o.Path) == 0 || o.Code == OpRename && len(o.Path2) == 0 {
			return true
		}
	}
	if o.Dir != 0 {
		f, ok := r.plain.slots[slotKey{o.Actor, o.Dir - 1}]
		if !ok || r.union.slots[slotKey{o.Actor, o.Dir - 1}] == nil || escapesFrom(f.fd, o.Path) {
			return true
		}
	} else if o.Path != nil && r.plain.escapes(o.Path) {
		return true
	}
	return (o.Code == OpLink || o.Code == OpRename) && r.plain.escapes(o.Path2)
}

// opensDevice tells whether a device would be opened, which a mount refuses
// and a plain directory does not.
func (r *run) opensDevice(o Op) bool {
	if o.Code != OpOpen {
		return false
	}
	var st unix.Stat_t
	return unix.Stat(r.plain.path(o), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFCHR
}

// failsWithWhiteout tells whether a RENAME_WHITEOUT would fail because its
// target is a directory that is not empty. ext4 makes the whiteout first, and
// leaves the time of the source directory changed.
func (r *run) failsWithWhiteout(o Op) bool {
	if o.Code != OpRename || o.Flags&unix.RENAME_WHITEOUT == 0 {
		return false
	}
	var st unix.Stat_t
	return unix.Lstat(r.plain.abs(o.Path2), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// onDirectory tells whether the operation's slot holds a directory.
func (r *run) onDirectory(o Op) bool {
	f, ok := r.plain.slots[slotKey{o.Actor, o.Slot}]
	var st unix.Stat_t
	return ok && unix.Fstat(f.fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// touch notes what the operation works on, for comparisons and for listings
// that are under way.
func (r *run) touch(o Op) {
	for _, p := range [][]byte{o.Path, o.Path2} {
		if p == nil {
			continue
		}
		r.touched[string(p)] = true
		switch o.Code {
		case OpOpen, OpLink, OpLinkF, OpUnlink, OpMkdir, OpRmdir, OpRename, OpSymlink, OpMknod:
		default:
			continue
		}
		for _, f := range r.union.slots {
			if f.dir != nil {
				f.dir.touched[path.Base(string(p))] = true
				if target, err := os.Readlink(r.plain.path(Op{Actor: o.Actor, Dir: o.Dir, Path: p})); err == nil {
					f.dir.touched[path.Base(target)] = true // made through a link
				}
			}
		}
	}
}

// streams looks after the listings under way when o has worked on one.
func (r *run) streams(o Op) error {
	if o.Code != OpOpendir && o.Code != OpReaddir && o.Code != OpSeekdir {
		return nil
	}
	k := slotKey{o.Actor, o.Slot}
	plain, union := r.plain.slots[k], r.union.slots[k]
	if union == nil || union.dir == nil {
		return nil
	}
	list, err := listDir(fmt.Sprintf("/proc/self/fd/%d", plain.fd))
	if err != nil {
		list = nil // removed, or not readable for this process
	}
	now := map[string]uint64{}
	for name, l := range list {
		now[name] = l.ino
	}
	if o.Code == OpOpendir {
		union.dir.atStart = now
		return nil
	}
	if !union.dir.ended || union.dir.atStart == nil || list == nil {
		return nil
	}
	if s := union.dir.check(now); s != "" {
		return r.fail("%s: %s; the union's stream gave %q", o, s, union.dir.names)
	}
	return nil
}

// seekHole compares lseek for data and holes loosely: where a side says that
// there is a hole, the content must be zeros.
func (r *run) seekHole(o Op) error {
	k := slotKey{o.Actor, o.Slot}
	var a, b Result
	act := r.actors[o.Actor]
	act.do(func() { a = r.plain.exec(o) })
	act.do(func() { b = r.union.exec(o) })
	r.results = append(r.results, a)
	if a == b || !a.Ran {
		return nil
	}
	if (a.Errno != 0 && a.Errno != unix.ENXIO) || (b.Errno != 0 && b.Errno != unix.ENXIO) || o.Off < 0 {
		if r.tolerated(o, a, b) != "" {
			return nil
		}
		return r.fail("%s: plain %s, union %s", o, a, b)
	}
	var st unix.Stat_t
	plain := r.plain.slots[k]
	if err := unix.Fstat(plain.fd, &st); err != nil {
		return err
	}
	pos := st.Size
	if b.Errno == 0 {
		fmt.Sscan(b.Val, &pos)
	}
	// bring both to the same position for what follows
	defer func() {
		for _, s := range []*side{r.plain, r.union} {
			unix.Seek(s.slots[k].fd, 0, 0)
		}
	}()
	if o.Off >= st.Size {
		return r.fail("%s in a file of size %d: plain %s, union %s", o, st.Size, a, b)
	}
	if o.Flags == unix.SEEK_HOLE {
		if b.Errno != 0 || pos < o.Off || pos > st.Size || (pos < st.Size && !r.zeros(plain, pos, min(pos+4096, st.Size)&^4095)) {
			return r.fail("%s in a file of size %d: plain %s, union %s", o, st.Size, a, b)
		}
		return nil
	}
	if pos < o.Off || !r.zeros(plain, o.Off, pos) {
		return r.fail("%s in a file of size %d skips data: plain %s, union %s", o, st.Size, a, b)
	}
	return nil
}

// zeros tells whether an open file has only zeros from off to end.
func (r *run) zeros(f *openFile, off, end int64) bool {
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", f.fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true // a file that this process may not read proves nothing
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for off < end {
		n, err := unix.Pread(fd, buf[:min(int64(len(buf)), end-off)], off)
		if err != nil || n == 0 {
			return true
		}
		for _, c := range buf[:n] {
			if c != 0 {
				return false
			}
		}
		off += int64(n)
	}
	return true
}
