package cow

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// mica's own records on upper objects. They live in the name space of
// overlayfs, which tools that copy an upper directory leave behind.
const (
	originXattr   = "user.overlay.mica.origin"
	redirectXattr = "user.overlay.mica.redirect"
	nlinkXattr    = "user.overlay.mica.nlink"
	// recordsXattr on the root of an upper says that files and directories in
	// it may be incomplete without the layers below.
	recordsXattr = "user.overlay.mica.records"
)

// errNeedsLayers says that a directory cannot be a layer.
var errNeedsLayers = errors.New("it is the upper directory of another union, and only with the layers of that one it is complete: " +
	"use one that was made with copyup=full and without redirect_dir")

// noteRecords marks an upper whose records other programs, and unions that
// have it as a layer, would have to know.
func (f *FS) noteRecords() error {
	if f.cfg.Observe || f.cfg.CopyUp == CopyUpFull && f.cfg.NoRedirect {
		return nil
	}
	fd, err := f.use(f.upper.root)
	if err != nil {
		return err
	}
	defer f.done(f.upper.root, fd)
	if _, err = sys.Getxattr(fd, "", recordsXattr, nil); err == unix.ENODATA {
		err = sys.Setxattr(fd, "", recordsXattr, []byte("y"), 0)
	}
	if err == unix.EOPNOTSUPP { // then it has no records either
		return nil
	}
	return err
}

// contentState says where the content of a copied-up regular file is.
type contentState string

// The states. A file never goes back to an earlier one, but for stateBoot,
// which counts as stateMeta once the machine has been started anew: what was
// written was never known to be on disk.
const (
	stateFull contentState = "full" // all in the upper
	stateBoot contentState = "boot" // all in the upper, in the boot that arg names
	stateNew  contentState = "new"  // as stateMap, but nothing was synced: the map may be lost with the boot
	stateMap  contentState = "map"  // some blocks in the upper: see the map that arg names
	stateMeta contentState = "meta" // all in the lower layer
)

// origin records what an upper object was copied up from:
//
//	1 INO STATE[=ARG] LAYER SIZE PATH
//
// INO is the inode number that the union shows, LAYER counts from the bottom
// of the stack, SIZE is that of the lower file and PATH its path in the layer.
// LAYER and what follows are left out in stateFull.
type origin struct {
	ino   uint64
	state contentState
	arg   string
	layer int
	size  int64
	path  string
}

func (o origin) String() string {
	s := fmt.Sprintf("1 %d %s", o.ino, o.state)
	if o.arg != "" {
		s += "=" + o.arg
	}
	if o.state == stateFull {
		return s
	}
	return s + fmt.Sprintf(" %d %d %s", o.layer, o.size, o.path)
}

// parseOrigin reads a record.
func parseOrigin(s string) (o origin, err error) {
	bad := fmt.Errorf("parse %s %q: not an origin record", originXattr, s)
	f := strings.SplitN(s, " ", 6)
	if len(f) != 3 && len(f) != 6 || f[0] != "1" {
		return o, bad
	}
	if o.ino, err = strconv.ParseUint(f[1], 10, 64); err != nil {
		return o, bad
	}
	state, arg, _ := strings.Cut(f[2], "=")
	o.state, o.arg = contentState(state), arg
	switch o.state {
	case stateFull:
		return o, nil
	case stateBoot, stateNew, stateMap, stateMeta:
	default:
		return o, bad
	}
	if len(f) != 6 || (o.arg == "") != (o.state == stateMeta) {
		return o, bad
	}
	layer, err1 := strconv.ParseUint(f[3], 10, 31)
	size, err2 := strconv.ParseInt(f[4], 10, 64)
	if err1 != nil || err2 != nil || size < 0 || f[5] == "" {
		return o, bad
	}
	o.layer, o.size, o.path = int(layer), size, f[5]
	return o, nil
}

// writeOrigin stores a record on an object.
func (f *FS) writeOrigin(dirfd int, name string, o origin) error {
	return f.setRecord(dirfd, name, originXattr, o.String())
}

// readOrigin takes an upper object's record into account: its inode number,
// and where the content of a regular file is. Needs FS.tree.
func (f *FS) readOrigin(n *Node, fd int, name string, st *unix.Statx_t) error {
	raw, err := f.liftedXattr(fd, name, originXattr)
	if err != nil {
		return err
	}
	o, err := parseOrigin(string(raw))
	if err != nil {
		return err
	}
	n.ino = o.ino
	if n.meta.Type() != unix.S_IFREG || o.state == stateFull {
		return nil
	}
	return f.loadPartly(n, o, fd, name, st)
}

// bottomIndex counts a layer from the bottom of the stack, which stays the
// same when layers are added above.
func (f *FS) bottomIndex(l *layer) int {
	for i, have := range f.layers {
		if have == l {
			return len(f.layers) - 1 - i
		}
	}
	return -1
}

// readNlink reads what is to be added to an object's link count on disk.
func (f *FS) readNlink(n *Node, fd int, name string) error {
	raw, err := f.liftedXattr(fd, name, nlinkXattr)
	if err != nil {
		return err
	}
	delta, err := strconv.ParseInt(string(raw), 10, 32)
	if err != nil {
		return fmt.Errorf("parse %s %q: want a number", nlinkXattr, raw)
	}
	n.nlink = int32(delta)
	n.flags |= flagIndexed
	return nil
}

// storeNlink records what is to be added to the link count on disk of the
// object at p.
func (f *FS) storeNlink(p place, delta int32) error {
	fd, err := f.use(p.dir)
	if err != nil {
		return err
	}
	defer f.done(p.dir, fd)
	err = f.setRecord(fd, p.name, nlinkXattr, strconv.Itoa(int(delta)))
	if !f.cannotCarry(err) {
		return err
	}
	var st unix.Statx_t
	if err := sys.Stat(fd, p.name, &st); err != nil {
		return err
	}
	r, _ := f.work.apart.get(st.Ino)
	r.nlink, r.many = delta, true
	return f.recordApart(st.Ino, r)
}
