package cow

import (
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// inNamespace tells whether an attribute's name is in one that Linux has.
// Others are refused by every operation, as by all filesystems of the kernel.
func inNamespace(name string) bool {
	for _, prefix := range [...]string{"user.", "trusted.", "security.", "system."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// Getxattr reads an attribute into buf and gives its size; an empty buf asks
// for the size alone, one that is too small gets ERANGE.
func (f *FS) Getxattr(n *Node, name string, buf []byte) (int, error) {
	f.tree.RLock()
	defer f.tree.RUnlock()
	if !inNamespace(name) {
		return 0, unix.EOPNOTSUPP
	}
	if f.lacks(n, name) {
		return 0, unix.ENODATA
	}
	stored, ok := xattrOnDisk(n.layer(), name)
	if !ok {
		return 0, unix.ENODATA
	}
	fd, obj, p, err := f.reach(n)
	if err != nil {
		return 0, err
	}
	defer p.put()
	size, err := sys.Getxattr(fd, obj, stored, buf)
	if err == unix.EOPNOTSUPP && n.layer().owners == OwnersStored {
		err = unix.ENODATA // a real symlink: it has none
	}
	if name == capXattr && err == nil {
		f.capTalk.ask(n, len(buf) == 0)
	}
	return size, err
}

// lacks tells without a system call that n has not the attribute: the kernel
// asks for these two before the first write to a file and the first check of
// a permission, and files in the upper say by their flags. Needs FS.tree.
func (f *FS) lacks(n *Node, name string) bool {
	if !f.inUpper(n) || n.meta.Type() == unix.S_IFLNK { // of symlinks nobody has looked
		return false
	}
	switch name {
	case capXattr:
		return n.flags&flagCap == 0
	case accessACL:
		return n.flags&flagACL == 0
	}
	return false
}

// Listxattr gives the names that the image sees.
func (f *FS) Listxattr(n *Node) ([]string, error) {
	f.tree.RLock()
	defer f.tree.RUnlock()
	fd, obj, p, err := f.reach(n)
	if err != nil {
		return nil, err
	}
	defer p.put()
	stored, err := sys.Listxattr(fd, obj)
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := stored[:0]
	for _, s := range stored {
		if name, ok := xattrInImage(n.layer(), s); ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// Setxattr sets an attribute; flags are those of setxattr(2). killGroup asks
// to clear the set-group-id bit along with an access ACL.
func (f *FS) Setxattr(n *Node, name string, value []byte, flags int, killGroup bool) error {
	f.tree.RLock()
	err := f.settable(n, name)
	f.tree.RUnlock()
	if err == nil {
		err = f.copyUpBefore(n)
	}
	if err != nil {
		return err
	}
	f.tree.Lock()
	defer f.tree.Unlock()
	if err := f.settable(n, name); err != nil { // it may have got another name
		return err
	}
	if err := f.copyUp(n, true); err != nil {
		return err
	}
	switch name {
	case accessACL:
		return f.setAccessACL(n, value, killGroup)
	case defaultACL:
		return f.setDefaultACL(n, value)
	}
	if err := f.storeXattr(n, name, value, flags); err != nil {
		return err
	}
	if name == capXattr {
		n.flags |= flagCap
		f.capTalk.end(n)
	}
	return nil
}

// settable checks that an object of n's type can have the attribute.
func (f *FS) settable(n *Node, name string) error {
	if f.ReadOnly() {
		return unix.EROFS
	}
	if len(name) > 255 {
		return unix.ERANGE
	}
	if !inNamespace(name) {
		return unix.EOPNOTSUPP
	}
	if _, ok := xattrOnDisk(f.upper, name); !ok {
		return unix.ENOSPC
	}
	t := n.meta.Type()
	if strings.HasPrefix(name, "user.") && t != unix.S_IFREG && t != unix.S_IFDIR {
		return unix.EPERM // xattr(7): only files and directories have them
	}
	if strings.HasPrefix(name, "system.") && name != accessACL && name != defaultACL {
		return unix.EOPNOTSUPP
	}
	if t == unix.S_IFLNK && strings.HasPrefix(name, "system.") {
		return unix.EOPNOTSUPP
	}
	return nil
}

// storeXattr sets an attribute on disk. Needs FS.tree exclusively; n is in the
// upper.
func (f *FS) storeXattr(n *Node, name string, value []byte, flags int) error {
	stored, _ := xattrOnDisk(f.upper, name)
	if err := f.needPlaceholder(n, true); err != nil {
		return err
	}
	fd, obj, p, err := f.reach(n)
	if err != nil {
		return err
	}
	defer p.put()
	if name == accessACL || name == capXattr {
		f.lifting.Lock() // where the disk takes an ACL as one, it changes the mode with it, as lift does
		defer f.lifting.Unlock()
	}
	return sys.Setxattr(fd, obj, stored, value, flags)
}

// Removexattr removes an attribute.
func (f *FS) Removexattr(n *Node, name string) error {
	f.tree.Lock()
	defer f.tree.Unlock()
	if f.ReadOnly() {
		return unix.EROFS
	}
	if !inNamespace(name) {
		return unix.EOPNOTSUPP
	}
	acl := name == accessACL || name == defaultACL
	if !f.inUpper(n) {
		// Copying up for nothing would be a change that nobody asked for.
		if err := f.hasXattr(n, name); err != nil {
			return noACL(err, acl)
		}
	}
	if err := f.copyUp(n, true); err != nil {
		return err
	}
	if err := f.removeXattr(n, name); err != nil {
		return noACL(err, acl)
	}
	switch name {
	case capXattr:
		n.flags &^= flagCap
		f.capTalk.remove(n)
	case accessACL:
		n.flags &^= flagACL
	case defaultACL:
		if n.dir != nil {
			n.dir.acl, n.dir.aclKnown = nil, true
		}
	}
	return nil
}

// noACL lets the removal of an ACL that is not there succeed, as the kernel's
// own filesystems do: a file without one has the ACL that its mode describes.
func noACL(err error, acl bool) error {
	if acl && err == unix.ENODATA {
		return nil
	}
	return err
}

// hasXattr fails with ENODATA if n has not the attribute.
func (f *FS) hasXattr(n *Node, name string) error {
	stored, ok := xattrOnDisk(n.layer(), name)
	if !ok {
		return unix.ENODATA
	}
	fd, obj, p, err := f.reach(n)
	if err != nil {
		return err
	}
	defer p.put()
	_, err = sys.Getxattr(fd, obj, stored, nil)
	if err == unix.EOPNOTSUPP {
		err = unix.ENODATA
	}
	return err
}

// removeXattr removes an attribute from an upper object. Needs FS.tree
// exclusively.
func (f *FS) removeXattr(n *Node, name string) error {
	stored, ok := xattrOnDisk(f.upper, name)
	if !ok {
		return unix.ENODATA
	}
	fd, obj, p, err := f.reach(n)
	if err != nil {
		return err
	}
	defer p.put()
	if name == capXattr {
		f.lifting.Lock()
		defer f.lifting.Unlock()
	}
	err = sys.Removexattr(fd, obj, stored)
	if (err == unix.EOPNOTSUPP || err == unix.EPERM) && f.upper.owners == OwnersStored {
		err = unix.ENODATA // a real symlink: it has none
	}
	return err
}

// setAccessACL stores an access ACL and the mode that follows from it. Needs
// FS.tree exclusively.
func (f *FS) setAccessACL(n *Node, value []byte, killGroup bool) error {
	a, err := parseACL(value)
	if err != nil {
		return err
	}
	m := n.meta
	m.Mode = a.applyTo(m.Mode)
	if killGroup {
		m.Mode &^= unix.S_ISGID
	}
	if f.upper.owners == OwnersReal {
		if err := f.storeXattr(n, accessACL, value, 0); err != nil {
			return err
		}
		n.flags |= flagACL
		return f.changeMeta(n, m)
	}
	if a.minimal() {
		if err := f.removeXattr(n, accessACL); err != nil && err != unix.ENODATA {
			return err
		}
		n.flags &^= flagACL
	} else {
		if err := f.storeXattr(n, accessACL, value, 0); err != nil {
			return err
		}
		n.flags |= flagACL
	}
	return f.changeMeta(n, m)
}

// setDefaultACL stores a directory's default ACL. Needs FS.tree exclusively.
func (f *FS) setDefaultACL(n *Node, value []byte) error {
	if n.dir == nil {
		return unix.EACCES
	}
	a, err := parseACL(value)
	if err != nil {
		return err
	}
	if err := f.storeXattr(n, defaultACL, value, 0); err != nil {
		return err
	}
	n.dir.acl, n.dir.aclKnown = a, true
	return nil
}
