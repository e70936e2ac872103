package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// This file is where the upper's two ways of keeping owners, types and
// attributes part: as package ondisk spells them, or as the inodes themselves
// have them.

// The attributes that the union itself acts upon, by the image's names, and as
// an upper with stored owners spells them.
const (
	capXattr   = "security.capability"
	accessACL  = "system.posix_acl_access"
	defaultACL = "system.posix_acl_default"
)

var (
	storedCap       = ondisk.StoredXattr(capXattr)
	storedAccessACL = ondisk.StoredXattr(accessACL)
)

// xattrOnDisk gives the name under which layer l keeps an attribute; ok is
// false for names that cannot be kept.
func xattrOnDisk(l *layer, name string) (string, bool) {
	stored := ondisk.PlainXattr(name)
	if l.owners == OwnersStored {
		stored = ondisk.StoredXattr(name)
	}
	return stored, len(stored) <= 255
}

// xattrInImage is the inverse of xattrOnDisk; ok is false for names that the
// image does not see.
func xattrInImage(l *layer, stored string) (string, bool) {
	if l.owners == OwnersStored {
		return ondisk.ImageXattr(stored)
	}
	return ondisk.PlainImageXattr(stored)
}

// makeObject makes an object, not a regular file, as name in the upper
// directory dirfd.
func (f *FS) makeObject(dirfd int, name string, o ondisk.Object) (err error) {
	if f.upper.owners == OwnersStored {
		return ondisk.Create(dirfd, name, o)
	}
	switch {
	case o.Type() == unix.S_IFDIR:
		err = unix.Mkdirat(dirfd, name, o.Perm()|0o700)
	case o.Type() == unix.S_IFLNK:
		err = unix.Symlinkat(o.Target, dirfd, name)
	case likeWhiteout(o.Meta):
		if err = ondisk.MarkPlaceholders(dirfd); err == nil {
			err = unix.Mknodat(dirfd, name, unix.S_IFREG|0o600, 0)
		}
	default:
		err = unix.Mknodat(dirfd, name, o.Mode, int(o.Rdev))
	}
	if err != nil {
		return err
	}
	return f.dressReal(dirfd, name, o)
}

// dressReal gives a new object its attributes, owner and mode, or removes it.
func (f *FS) dressReal(dirfd int, name string, o ondisk.Object) (err error) {
	defer func() {
		if err != nil {
			_ = unix.Unlinkat(dirfd, name, 0)
			_ = unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
		}
	}()
	if err := f.setMeta(dirfd, name, o.Meta); err != nil {
		return err
	}
	for attr, value := range o.Xattrs {
		stored, ok := xattrOnDisk(f.upper, attr)
		if !ok {
			continue
		}
		if err := sys.Setxattr(dirfd, name, stored, value, 0); err != nil && err != unix.EOPNOTSUPP {
			return err
		}
	}
	return nil
}

// setMetaReal sets owner and mode in the inode. The owner comes first, since
// changing it clears set-id bits.
func (f *FS) setMetaReal(dirfd int, name string, m ondisk.Meta) error {
	f.lifting.Lock()
	defer f.lifting.Unlock()
	var st unix.Statx_t
	if err := sys.Stat(dirfd, name, &st); err != nil {
		return err
	}
	if err := chownReal(dirfd, name, m, &st); err != nil {
		return err
	}
	if m.Type() == unix.S_IFLNK || uint32(st.Mode)&0o7777 == m.Perm() {
		return nil
	}
	return ondisk.Chmod(dirfd, name, m.Perm())
}

// chownReal sets the owner in the inode, whose status is st before and after.
func chownReal(dirfd int, name string, m ondisk.Meta, st *unix.Statx_t) error {
	if st.Uid == m.UID && st.Gid == m.GID {
		return nil
	}
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if err := unix.Fchownat(dirfd, name, int(m.UID), int(m.GID), flags); err != nil {
		return err
	}
	if m.Type() != unix.S_IFDIR { // those of directories stay
		st.Mode &^= unix.S_ISUID | unix.S_ISGID
	}
	return nil
}

// setMeta records new metadata for an upper object that has old.
func (f *FS) setMeta(dirfd int, name string, m ondisk.Meta) error {
	if f.upper.owners == OwnersStored {
		return ondisk.SetMeta(dirfd, name, m)
	}
	if !likeWhiteout(m) {
		return f.setMetaReal(dirfd, name, m)
	}
	var st unix.Statx_t
	if err := sys.Stat(dirfd, name, &st); err != nil {
		return err
	}
	if err := chownReal(dirfd, name, m, &st); err != nil {
		return err
	}
	return sys.Setxattr(dirfd, name, ondisk.OverrideXattr, []byte(m.Override()), 0)
}

// likeWhiteout tells whether an object is a 0:0 character device, as a union
// inside this one makes for its own deletions. On disk that would delete the
// name here: it is a placeholder even where the upper has real owners.
func likeWhiteout(m ondisk.Meta) bool { return m.Type() == unix.S_IFCHR && m.Rdev == 0 }

// diskMode is the mode that an object with m gets on disk.
func (f *FS) diskMode(m ondisk.Meta) uint32 {
	if f.upper.owners == OwnersStored {
		return ondisk.DiskMode(m)
	}
	return m.Perm()
}

// readTarget reads a symlink's target, wherever the layer keeps it.
func readTarget(dirfd int, name string) (string, error) {
	var st unix.Statx_t
	if err := sys.Stat(dirfd, name, &st); err != nil {
		return "", err
	}
	return ondisk.ReadTarget(dirfd, name, &st)
}

// readXattrs reads the attributes of an object of layer l by the image's
// names.
func readXattrs(l *layer, dirfd int, name string) (map[string][]byte, error) {
	stored, err := sys.Listxattr(dirfd, name)
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var xattrs map[string][]byte
	for _, s := range stored {
		attr, ok := xattrInImage(l, s)
		if !ok {
			continue
		}
		value, err := sys.GetxattrAll(dirfd, name, s)
		if err == unix.ENODATA || err == unix.EOPNOTSUPP {
			continue
		}
		if err != nil {
			return nil, err
		}
		if xattrs == nil {
			xattrs = make(map[string][]byte)
		}
		xattrs[attr] = value
	}
	return xattrs, nil
}
