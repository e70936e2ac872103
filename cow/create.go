package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/whiteout"
)

// Caller is who asks for a new object.
type Caller struct {
	UID, GID uint32
	Umask    uint32
}

// NewObject describes an object to be made.
type NewObject struct {
	Mode   uint32 // type and permission bits, before the umask
	Rdev   uint32 // of devices, as unix.Mkdev makes it
	Target string // of symlinks
}

// Create makes name in dir and gives its node, with a reference, and its
// attributes. It fails with EEXIST if the name is there.
func (f *FS) Create(c Caller, dir *Node, name string, o NewObject, out *Attr) (*Node, error) {
	if dir.dir == nil {
		return nil, unix.ENOTDIR
	}
	if len(name) > nameMax {
		return nil, unix.ENAMETOOLONG
	}
	if len(o.Target) > 4095 {
		return nil, unix.ENAMETOOLONG
	}
	f.tree.Lock()
	defer f.tree.Unlock()
	up, err := f.freeName(dir, name)
	if err != nil {
		return nil, err
	}
	spec := ondisk.Object{Meta: ondisk.Meta{UID: c.UID, GID: c.GID, Mode: o.Mode, Rdev: o.Rdev}, Target: o.Target}
	if err := f.inherit(dir, up, &spec, c.Umask); err != nil {
		return nil, err
	}
	ent := &dirent{name: name, owner: up}
	h, covered := dir.dir.hidden[name]
	ent.below = h.below
	n := &Node{meta: spec.Meta}
	var st unix.Statx_t
	switch {
	case covered:
		err = f.createOver(up, name, spec, h.style, &st)
	case spec.Type() == unix.S_IFREG && len(spec.Xattrs) == 0:
		err = f.createRegular(up, n, name, spec, &st)
	default:
		err = f.createPlain(up, name, spec, &st)
	}
	if err != nil {
		return nil, err
	}
	delete(dir.dir.hidden, name)
	if spec.Type() == unix.S_IFDIR {
		n.dir = newDirState(up.sub(f.fds, name))
		n.dir.loaded = true
	} else {
		n.back = place{up, name}
	}
	if _, ok := spec.Xattrs[accessACL]; ok {
		n.flags |= flagACL
	}
	n.backIno = unionIno(f.upper, st.Ino)
	n.ino = n.backIno
	if spec.Type() != unix.S_IFREG && spec.Type() != unix.S_IFDIR {
		f.dropApart(st.Ino) // of an object that a crash took
	}
	ent.ino, ent.typ = st.Ino, dtype(spec.Mode)
	dir.dir.insert(ent)
	f.attach(dir, ent, n)
	n.refs.Add(1)
	if out != nil {
		f.fillAttr(n, &st, out)
	}
	return n, nil
}

// freeName makes sure that dir can take name, which must be free, and gives
// dir's place in the upper. Needs FS.tree exclusively.
func (f *FS) freeName(dir *Node, name string) (*dirRef, error) {
	if f.ReadOnly() {
		return nil, unix.EROFS
	}
	if dir.flags&flagDeleted != 0 {
		return nil, unix.ENOENT
	}
	if reserved(name) {
		return nil, unix.EPERM
	}
	_, err := f.entry(dir, name)
	if err == nil {
		return nil, unix.EEXIST
	}
	if err != unix.ENOENT {
		return nil, err
	}
	return f.ensureUpperDir(dir)
}

// reserved tells whether a name spells a whiteout: no layer can hold it as the
// name of something else.
func reserved(name string) bool {
	mark, _ := whiteout.ParseName(name)
	return mark != whiteout.None
}

// inherit applies what a new object takes from its directory: the group and
// the set-group-id bit, and the default ACL, or else the umask.
func (f *FS) inherit(dir *Node, up *dirRef, o *ondisk.Object, umask uint32) error {
	if dir.meta.Mode&unix.S_ISGID != 0 {
		o.GID = dir.meta.GID
		if o.Type() == unix.S_IFDIR {
			o.Mode |= unix.S_ISGID
		}
	}
	if o.Type() == unix.S_IFLNK {
		o.Mode = unix.S_IFLNK | 0o777
		return nil
	}
	acl, err := f.defaultACL(dir, up)
	if err != nil {
		return err
	}
	if acl == nil {
		o.Mode &^= umask & 0o777
		return nil
	}
	return acl.inherit(o)
}

// createRegular makes an empty regular file where nothing was, and keeps its
// descriptor for the writes to come.
func (f *FS) createRegular(up *dirRef, n *Node, name string, o ondisk.Object, st *unix.Statx_t) error {
	dfd, err := f.use(up)
	if err != nil {
		return err
	}
	defer f.done(up, dfd)
	fd, err := f.fds.room(func() (int, error) {
		return sys.Open(dfd, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|f.atimeFlag(), f.diskMode(o.Meta)|0o600)
	})
	if err != nil {
		return err
	}
	if err = sys.Stat(fd, "", st); err == nil {
		err = f.dressNew(fd, o.Meta, st)
	}
	if err != nil {
		sys.Close(fd)
		_ = unix.Unlinkat(dfd, name, 0)
		return err
	}
	e := &f.fileOf(n).fd
	f.fds.pin(e, fd)
	f.fds.put(e, fd)
	return nil
}

// dressNew makes the owner and mode of the new file fd what m says. st is its
// status, in which the process's umask may have had a say.
func (f *FS) dressNew(fd int, m ondisk.Meta, st *unix.Statx_t) error {
	if f.upper.owners == OwnersReal {
		if st.Uid == m.UID && st.Gid == m.GID && uint32(st.Mode)&0o7777 == m.Perm() {
			return nil
		}
		return f.setMetaReal(fd, "", m)
	}
	if want := ondisk.DiskMode(m); uint32(st.Mode)&0o7777 != want {
		if err := sys.Retry(func() error { return unix.Fchmod(fd, want) }); err != nil {
			return err
		}
	}
	if m.Plain() {
		return nil
	}
	return sys.Setxattr(fd, "", ondisk.OverrideXattr, []byte(m.Override()), 0)
}

// createPlain makes an object where nothing was.
func (f *FS) createPlain(up *dirRef, name string, o ondisk.Object, st *unix.Statx_t) error {
	dfd, err := f.use(up)
	if err != nil {
		return err
	}
	defer f.done(up, dfd)
	if err := f.makeObject(dfd, name, o); err != nil {
		return err
	}
	return sys.Stat(dfd, name, st)
}

// createOver makes an object where the upper has a whiteout of a style. A directory must
// not show what the whiteout hid: it is opaque.
func (f *FS) createOver(up *dirRef, name string, o ondisk.Object, style whiteout.Style, st *unix.Statx_t) error {
	stage := f.work.stageName()
	var err error
	if o.Type() == unix.S_IFREG {
		if err = f.makeRegular(f.work.staging, stage, o); err == nil {
			err = f.dressRegular(f.work.staging, stage, o)
		}
	} else {
		err = f.makeObject(f.work.staging, stage, o)
	}
	if err == nil && o.Type() == unix.S_IFDIR {
		err = f.style.SetOpaque(f.work.staging, stage)
	}
	if err == nil {
		err = f.notePlaceholder(up, o.Meta)
	}
	if err == nil {
		err = f.putOver(stage, up, name, style, o.Type() == unix.S_IFDIR)
	}
	if err != nil {
		f.work.discard(stage)
		return err
	}
	return f.statPlace(up, name, st)
}

// Tmpfile makes a regular file without a name in dir, as O_TMPFILE does.
func (f *FS) Tmpfile(c Caller, dir *Node, mode uint32, out *Attr) (*Node, error) {
	if dir.dir == nil {
		return nil, unix.ENOTDIR
	}
	f.tree.Lock()
	defer f.tree.Unlock()
	if f.ReadOnly() {
		return nil, unix.EROFS
	}
	up, err := f.ensureUpperDir(dir)
	if err != nil {
		return nil, err
	}
	o := ondisk.Object{Meta: ondisk.Meta{UID: c.UID, GID: c.GID, Mode: unix.S_IFREG | mode&0o7777}}
	if err := f.inherit(dir, up, &o, c.Umask); err != nil {
		return nil, err
	}
	dfd, err := f.use(up)
	if err != nil {
		return nil, err
	}
	defer f.done(up, dfd)
	fd, err := unix.Openat(dfd, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, f.diskMode(o.Meta)|0o600)
	if err != nil {
		return nil, err
	}
	var st unix.Statx_t
	if err = sys.Stat(fd, "", &st); err == nil {
		err = f.dressNew(fd, o.Meta, &st)
	}
	for attr, value := range o.Xattrs {
		if stored, ok := xattrOnDisk(f.upper, attr); ok && err == nil {
			err = sys.Setxattr(fd, "", stored, value, 0)
		}
	}
	if err != nil {
		sys.Close(fd)
		return nil, err
	}
	n := &Node{meta: o.Meta, flags: flagDeleted, back: place{dir: up}}
	n.backIno = unionIno(f.upper, st.Ino)
	n.ino = n.backIno
	if _, ok := o.Xattrs[accessACL]; ok {
		n.flags |= flagACL
	}
	n.refs.Store(1)
	f.holdNameless(n, fd)
	if out != nil {
		f.fillAttr(n, &st, out)
	}
	return n, nil
}
