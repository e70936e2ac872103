// Package ondisk spells objects of an image in a directory that belongs, in
// all its parts, to the user who runs mica.
//
// On disk every object is owned by that user, readable and writable by them,
// and never set-id. What the image sees (owner, mode, type, device number)
// lives in one extended attribute, in the form that containers/storage reads:
//
//	user.containers.override_stat = uid:gid:0mode:type
//
// The attribute is left out where it would say what the disk says already:
// owner 0:0 and the permission bits of the file itself. An object whose type
// cannot carry user attributes (a device, FIFO, socket, or a symlink that
// is not plain) is a regular placeholder file whose attribute holds the true
// type; the content of a symlink's placeholder is its target. Extended
// attributes that an unprivileged user may not set, and names that mica keeps
// for itself, are stored under a prefix (see [StoredXattr]).
package ondisk

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OverrideXattr is the attribute that holds what the image sees of an object.
const OverrideXattr = "user.containers.override_stat"

// Meta is what an image sees of one object.
type Meta struct {
	UID, GID uint32
	Mode     uint32 // type and permission bits, as in st_mode
	Rdev     uint32 // of devices, as [Device] makes it
}

// Device packs a device number as mknod(2) takes it. Linux has 12 bits of major and 20 bits of minor number; what has
// more is no device.
func Device(major, minor int64) (dev uint32, ok bool) {
	if major < 0 || major >= 1<<12 || minor < 0 || minor >= 1<<20 {
		return 0, false
	}
	return uint32(unix.Mkdev(uint32(major), uint32(minor))), true
}

// Type is the S_IFMT part of the mode.
func (m Meta) Type() uint32 { return m.Mode & unix.S_IFMT }

// Perm is the mode without its type: permission, set-id and sticky bits.
func (m Meta) Perm() uint32 { return m.Mode & 0o7777 }

// Override formats m as the value of [OverrideXattr].
func (m Meta) Override() string {
	b := make([]byte, 0, 32)
	b = strconv.AppendUint(b, uint64(m.UID), 10)
	b = append(b, ':')
	b = strconv.AppendUint(b, uint64(m.GID), 10)
	b = append(b, ':', '0')
	b = strconv.AppendUint(b, uint64(m.Perm()), 8)
	b = append(b, ':')
	switch m.Type() {
	case unix.S_IFDIR:
		b = append(b, "dir"...)
	case unix.S_IFLNK:
		b = append(b, "symlink"...)
	case unix.S_IFIFO:
		b = append(b, "pipe"...)
	case unix.S_IFSOCK:
		b = append(b, "socket"...)
	case unix.S_IFBLK:
		b = fmt.Appendf(b, "block-%d-%d", unix.Major(uint64(m.Rdev)), unix.Minor(uint64(m.Rdev)))
	case unix.S_IFCHR:
		b = fmt.Appendf(b, "char-%d-%d", unix.Major(uint64(m.Rdev)), unix.Minor(uint64(m.Rdev)))
	default:
		b = append(b, "file"...)
	}
	return string(b)
}

// ParseOverride reads the value of [OverrideXattr]. diskType is the S_IFMT
// type of the object that carries it, which holds when the value, as older
// writers left it, names no type.
func ParseOverride(value string, diskType uint32) (Meta, error) {
	bad := func() (Meta, error) {
		return Meta{}, fmt.Errorf("parse %s %q: want uid:gid:mode[:type]", OverrideXattr, value)
	}
	uidText, rest, ok := strings.Cut(value, ":")
	if !ok {
		return bad()
	}
	gidText, rest, ok := strings.Cut(rest, ":")
	if !ok {
		return bad()
	}
	modeText, typeText, typed := strings.Cut(rest, ":")
	uid, err1 := strconv.ParseUint(uidText, 10, 32)
	gid, err2 := strconv.ParseUint(gidText, 10, 32)
	mode, err3 := strconv.ParseUint(modeText, 8, 32)
	if err1 != nil || err2 != nil || err3 != nil {
		return bad()
	}
	m := Meta{UID: uint32(uid), GID: uint32(gid), Mode: uint32(mode)&0o7777 | diskType}
	if !typed {
		return m, nil
	}
	kind, device, hasDevice := strings.Cut(typeText, "-")
	switch kind {
	case "file":
		m.Mode = m.Perm() | unix.S_IFREG
	case "dir":
		m.Mode = m.Perm() | unix.S_IFDIR
	case "symlink":
		m.Mode = m.Perm() | unix.S_IFLNK
	case "pipe":
		m.Mode = m.Perm() | unix.S_IFIFO
	case "socket":
		m.Mode = m.Perm() | unix.S_IFSOCK
	case "block", "char":
		m.Mode = m.Perm() | unix.S_IFBLK
		if kind == "char" {
			m.Mode = m.Perm() | unix.S_IFCHR
		}
		majorText, minorText, ok := strings.Cut(device, "-")
		major, err1 := strconv.ParseUint(majorText, 10, 32)
		minor, err2 := strconv.ParseUint(minorText, 10, 32)
		if !hasDevice || !ok || err1 != nil || err2 != nil {
			return bad()
		}
		if m.Rdev, ok = Device(int64(major), int64(minor)); !ok {
			return bad()
		}
	default:
		return bad()
	}
	// A directory on disk is a directory for the image and nothing else is.
	if (m.Type() == unix.S_IFDIR) != (diskType == unix.S_IFDIR) {
		return bad()
	}
	return m, nil
}

// DiskMode gives the permission bits that an object with m has on disk.
func DiskMode(m Meta) uint32 {
	if m.Type() == unix.S_IFDIR {
		return m.Mode&0o777 | 0o700
	}
	return m.Mode&0o777 | 0o600
}

// Plain tells whether the disk alone can say all of m: no override is needed.
func (m Meta) Plain() bool {
	if m.UID != 0 || m.GID != 0 {
		return false
	}
	switch m.Type() {
	case unix.S_IFREG, unix.S_IFDIR:
		return m.Perm() == DiskMode(m)
	case unix.S_IFLNK:
		return true
	}
	return false
}
