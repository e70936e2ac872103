package ids

import (
	"encoding/binary"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// foreign knows the files that owners are not recorded of: those of volumes and of directories of the host.
type foreign struct {
	view     *View
	uid, gid uint32   // that the kernel shows for the one user
	others   []uint64 // filesystems that have owners of their own: the root, /proc, and others that the kernel makes
}

// Greet tells a tracer over its connection, as the first thing, who init is and what it has to know of the sandbox's files.
func Greet(conn int) error {
	hello := binary.NativeEndian.AppendUint32(nil, uint32(os.Getuid()))
	hello = binary.NativeEndian.AppendUint32(hello, uint32(os.Getgid()))
	for _, dir := range []string{"/", "/proc", "/sys", "/dev"} {
		var st unix.Stat_t
		if unix.Stat(dir, &st) == nil {
			hello = binary.NativeEndian.AppendUint64(hello, st.Dev)
		}
	}
	return sendThread(conn, os.Getpid(), hello)
}

// newForeign makes one from the descriptor of the memory of a Table, which it takes, and what Greet has told.
func newForeign(shared int, hello []byte) (*foreign, error) {
	mem, err := unix.Mmap(shared, 0, SharedSize, unix.PROT_READ, unix.MAP_SHARED)
	unix.Close(shared)
	if err != nil {
		return nil, fmt.Errorf("map table of credentials: %w", err)
	}
	if len(hello) < 8 {
		return nil, unix.EPIPE
	}
	f := &foreign{view: NewView(mem), uid: binary.NativeEndian.Uint32(hello), gid: binary.NativeEndian.Uint32(hello[4:])}
	for rest := hello[8:]; len(rest) >= 8; rest = rest[8:] {
		f.others = append(f.others, binary.NativeEndian.Uint64(rest))
	}
	return f, nil
}

// has says whether a result is about such a file, and shows the one user as its owner.
func (f *foreign) has(l layout, buf []byte) bool {
	uid, _ := l.owner(buf)
	return uid == f.uid && !slices.Contains(f.others, l.dev(buf))
}

// isProcess says whether a result is about a directory of proc(5) that may be one of a process.
func (f *foreign) isProcess(l layout, buf []byte) bool {
	uid, _ := l.owner(buf)
	return uid == f.uid && len(f.others) > 1 && l.dev(buf) == f.others[1] && f.view.anybody()
}

// correct puts who looks into a result that has that one user, and says whether it did: that one may be who looks.
func (f *foreign) correct(c *stat, buf []byte, tid int) bool {
	uid, gid, ok := f.view.ownerOf(tid)
	if !ok {
		return false
	}
	if _, group := c.layout.owner(buf); group != f.gid {
		gid = group
	}
	c.layout.setOwner(buf, uid, gid)
	return true
}
