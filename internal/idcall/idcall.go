// Package idcall is how the init of a sandbox with one id asks the server of its root filesystem for what the kernel
// would refuse it: to record an owner that does not exist in the user namespace, and to make a device node.
//
// The requests travel as extended attributes of the files concerned, so they need no other channel and name a file in the
// only way that holds under renames: by an open descriptor. Their names begin with "security.mica." and a token that only
// init and the server know; the kernel lets nobody without CAP_SYS_ADMIN over the filesystem set security attributes, and
// shows them to the server of a FUSE filesystem without looking at them.
//
//	setxattr(FILE, security.mica.TOKEN.owner, "UID:GID")        chown(2), "-" for an id that stays; what chown clears is cleared
//	getxattr(FILE, security.mica.TOKEN.owner)                   -> "UID:GID" as stored
//	getxattr(DIR,  security.mica.TOKEN.node:MODE:RDEV:UID:GID:NAME)
//	                                                            mknod(2) of NAME in DIR -> "ok"; MODE (with its type) is octal,
//	                                                            RDEV as unix.Mkdev makes it. It is a read, because then the
//	                                                            kernel holds no lock on DIR and the server can take the
//	                                                            negative entry of NAME back before it answers.
//
// With another token, or without one, a server treats these names like any other.
package idcall

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Keep as an id leaves it as it is.
const Keep = ^uint32(0)

// Files whose recorded owner is not the one that the mount shows are shown with the block size HiddenBlksize, so that those who
// want to know need to ask for no others. Other files of that block size are shown with ShownBlksize.
const (
	HiddenBlksize = 32768
	ShownBlksize  = 4096
)

const prefix = "security.mica."

// Op is what a request asks for.
type Op int

// The operations.
const (
	None  Op = iota // not a request
	Owner           // of the file
	Node            // to be made in the directory
)

// Request is a parsed attribute name.
type Request struct {
	Op Op
	// For Node.
	Name     string
	Mode     uint32
	Rdev     uint32
	UID, GID uint32
}

// NewToken makes a secret for one sandbox.
func NewToken() (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make token: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// OwnerName is the attribute for the owner of a file.
func OwnerName(token string) string { return prefix + token + ".owner" }

// NodeName is the attribute that makes a device node.
func NodeName(token, name string, mode uint32, rdev uint32, uid, gid uint32) string {
	return fmt.Sprintf("%s%s.node:%o:%d:%d:%d:%s", prefix, token, mode, rdev, uid, gid, name)
}

// Parse reads an attribute name. It is cheap for every name that is no request. An empty token matches nothing.
func Parse(token, attr string) (Request, error) {
	rest, ok := strings.CutPrefix(attr, prefix)
	if !ok || token == "" {
		return Request{}, nil
	}
	rest, ok = strings.CutPrefix(rest, token)
	if !ok {
		return Request{}, nil
	}
	if rest == ".owner" {
		return Request{Op: Owner}, nil
	}
	f := strings.SplitN(rest, ":", 6)
	if len(f) != 6 || f[0] != ".node" {
		return Request{}, fmt.Errorf("parse request %q: unknown", rest)
	}
	mode, err1 := strconv.ParseUint(f[1], 8, 32)
	rdev, err2 := strconv.ParseUint(f[2], 10, 32)
	uid, err3 := strconv.ParseUint(f[3], 10, 32)
	gid, err4 := strconv.ParseUint(f[4], 10, 32)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return Request{}, fmt.Errorf("parse request %q: %w", rest, err)
	}
	return Request{Op: Node, Name: f[5], Mode: uint32(mode), Rdev: uint32(rdev), UID: uint32(uid), GID: uint32(gid)}, nil
}

// FormatOwner is the value of the owner attribute.
func FormatOwner(uid, gid uint32) string { return formatID(uid) + ":" + formatID(gid) }

func formatID(id uint32) string {
	if id == Keep {
		return "-"
	}
	return strconv.FormatUint(uint64(id), 10)
}

// ParseOwner reads the value of the owner attribute; an id that is to stay is Keep.
func ParseOwner(value string) (uid, gid uint32, err error) {
	u, g, ok := strings.Cut(value, ":")
	if !ok {
		return 0, 0, fmt.Errorf("parse owner %q: want UID:GID", value)
	}
	ids := [2]uint32{Keep, Keep}
	for i, s := range []string{u, g} {
		if s == "-" {
			continue
		}
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return 0, 0, fmt.Errorf("parse owner %q: %w", value, err)
		}
		ids[i] = uint32(n)
	}
	return ids[0], ids[1], nil
}
