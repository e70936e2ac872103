package cow

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// POSIX ACLs are attributes whose meaning the union must keep up: a change of
// mode changes the ACL, a change of the ACL the mode, and a directory's
// default ACL shapes what is made in it. See acl(5) and linux/posix_acl.h.
const (
	aclVersion = 2

	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclGroup    = 0x08
	aclMask     = 0x10
	aclOther    = 0x20
)

type aclEntry struct {
	tag, perm uint16
	id        uint32
}

// acl is an access control list in the order that the attribute has it.
type acl []aclEntry

// parseACL reads the value of an ACL attribute and checks that it is whole: an
// entry for owner, group and others each, and a mask if anybody is named.
func parseACL(b []byte) (acl, error) {
	if len(b) < 4 || (len(b)-4)%8 != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, unix.EINVAL
	}
	var a acl
	seen := uint16(0)
	for b = b[4:]; len(b) > 0; b = b[8:] {
		e := aclEntry{
			tag:  binary.LittleEndian.Uint16(b),
			perm: binary.LittleEndian.Uint16(b[2:]),
			id:   binary.LittleEndian.Uint32(b[4:]),
		}
		single := e.tag&(aclUserObj|aclGroupObj|aclMask|aclOther) != 0
		named := e.tag == aclUser || e.tag == aclGroup
		if e.perm > 7 || single && seen&e.tag != 0 || !single && !named {
			return nil, unix.EINVAL
		}
		seen |= e.tag
		a = append(a, e)
	}
	const base = aclUserObj | aclGroupObj | aclOther
	if seen&base != base || seen&(aclUser|aclGroup) != 0 && seen&aclMask == 0 {
		return nil, unix.EINVAL
	}
	return a, nil
}

// bytes is the attribute's value.
func (a acl) bytes() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+8*len(a)), aclVersion)
	for _, e := range a {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// minimal tells whether mode bits say all of it.
func (a acl) minimal() bool { return len(a) == 3 }

// groupClass gives the entry that the group bits of a mode stand for.
func (a acl) groupClass() uint16 {
	for _, e := range a {
		if e.tag == aclMask {
			return aclMask
		}
	}
	return aclGroupObj
}

// applyTo gives mode with the permission bits of the ACL.
func (a acl) applyTo(mode uint32) uint32 {
	group := a.groupClass()
	mode &^= 0o777
	for _, e := range a {
		switch e.tag {
		case aclUserObj:
			mode |= uint32(e.perm) << 6
		case group:
			mode |= uint32(e.perm) << 3
		case aclOther:
			mode |= uint32(e.perm)
		}
	}
	return mode
}

// chmod sets the entries that mode bits stand for, or with mask set, narrows
// them to the bits.
func (a acl) chmod(mode uint32, narrow bool) {
	group := a.groupClass()
	for i := range a {
		var bits uint16
		switch a[i].tag {
		case aclUserObj:
			bits = uint16(mode>>6) & 7
		case group:
			bits = uint16(mode>>3) & 7
		case aclOther:
			bits = uint16(mode) & 7
		default:
			continue
		}
		if narrow {
			bits &= a[i].perm
		}
		a[i].perm = bits
	}
}

// inherit gives a new object what this default ACL of its directory says.
func (a acl) inherit(o *ondisk.Object) error {
	access := append(acl(nil), a...)
	access.chmod(o.Mode, true)
	o.Mode = access.applyTo(o.Mode)
	o.Xattrs = make(map[string][]byte)
	if !access.minimal() {
		o.Xattrs[accessACL] = access.bytes()
	}
	if o.Type() == unix.S_IFDIR {
		o.Xattrs[defaultACL] = a.bytes()
	}
	return nil
}

// defaultACL gives the default ACL of a directory, nil if it has none. up is
// its place in the upper. Needs FS.tree exclusively.
func (f *FS) defaultACL(dir *Node, up *dirRef) (acl, error) {
	d := dir.dir
	if d.aclKnown {
		return d.acl, nil
	}
	fd, err := f.use(up)
	if err != nil {
		return nil, err
	}
	defer f.done(up, fd)
	stored, _ := xattrOnDisk(f.upper, defaultACL)
	raw, err := sys.GetxattrAll(fd, "", stored)
	switch err {
	case nil:
		if d.acl, err = parseACL(raw); err != nil {
			return nil, unix.EIO
		}
	case unix.ENODATA, unix.EOPNOTSUPP:
		d.acl = nil
	default:
		return nil, err
	}
	d.aclKnown = true
	return d.acl, nil
}

// chmodACL brings a node's access ACL in line with a new mode. A filesystem
// that keeps real ACLs does so itself. Needs FS.tree exclusively.
func (f *FS) chmodACL(n *Node, mode uint32) error {
	if f.upper.owners == OwnersReal && !likeWhiteout(n.meta) {
		return nil
	}
	fd, name, p, err := f.reach(n)
	if err != nil {
		return err
	}
	defer p.put()
	stored, _ := xattrOnDisk(f.upper, accessACL)
	raw, err := sys.GetxattrAll(fd, name, stored)
	if err == unix.ENODATA {
		return nil
	}
	if err != nil {
		return err
	}
	a, err := parseACL(raw)
	if err != nil {
		return unix.EIO
	}
	a.chmod(mode, false)
	return sys.Setxattr(fd, name, stored, a.bytes(), 0)
}
