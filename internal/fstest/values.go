package fstest

import (
	"bytes"
	"encoding/binary"
)

const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"
	fileCaps   = "security.capability"
)

// valueOf is what an operation sets an attribute to: a valid value for those
// that the kernel reads, random bytes for others.
func valueOf(o Op) []byte {
	switch string(o.Path2) {
	case aclAccess, aclDefault:
		return acls[o.Seed%uint64(len(acls))]
	case fileCaps:
		return someCaps
	}
	return bytesOf(o)
}

// someCaps is CAP_NET_RAW, permitted and effective, in version 2.
var someCaps = []byte{1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// aclEntry is one entry of a POSIX ACL as its attribute holds it.
type aclEntry struct {
	Tag, Perm uint16
	ID        uint32
}

const (
	aclUserObj, aclUser, aclGroupObj, aclGroup, aclMask, aclOther = 1, 2, 4, 8, 16, 32
	aclNobody                                                     = 0xffffffff
)

func acl(entries ...aclEntry) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, uint32(2))
	for _, e := range entries {
		binary.Write(&b, binary.LittleEndian, e)
	}
	return b.Bytes()
}

var acls = [][]byte{
	acl(aclEntry{aclUserObj, 7, aclNobody}, aclEntry{aclGroupObj, 5, aclNobody}, aclEntry{aclOther, 0, aclNobody}),
	acl(aclEntry{aclUserObj, 7, aclNobody}, aclEntry{aclUser, 7, 1000}, aclEntry{aclGroupObj, 4, aclNobody},
		aclEntry{aclMask, 7, aclNobody}, aclEntry{aclOther, 4, aclNobody}),
	acl(aclEntry{aclUserObj, 7, aclNobody}, aclEntry{aclUser, 0, 2000}, aclEntry{aclGroupObj, 7, aclNobody},
		aclEntry{aclGroup, 5, 2000}, aclEntry{aclMask, 5, aclNobody}, aclEntry{aclOther, 5, aclNobody}),
	{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255}, // refused: no group, no other
}
