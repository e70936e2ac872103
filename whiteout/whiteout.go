// Package whiteout knows every spelling of "deleted" and "opaque".
//
// A whiteout says that a name of the layers below is gone; an opaque mark says
// that a directory hides all that the layers below have in it. On disk:
//
//	whiteout  a character device 0:0                      kernel overlayfs
//	          a file .wh.NAME beside the name             AUFS, OCI tar
//	          a file with {user,trusted}.overlay.whiteout in a
//	          directory whose opaque attribute is "x"     kernel overlayfs 6.7
//	opaque    {user,trusted}.overlay.opaque = "y"         kernel overlayfs
//	          user.fuseoverlayfs.opaque = "y"             fuse-overlayfs
//	          a file .wh..wh..opq in the directory        AUFS, OCI tar
//
// In a layer tar only the .wh. forms occur; a hard link of that name counts.
package whiteout

import "strings"

const (
	// Prefix stands before the name that a .wh. whiteout deletes.
	Prefix = ".wh."
	// OpaqueName is the file that makes its directory opaque.
	OpaqueName = ".wh..wh..opq"
	// metaPrefix begins the names that AUFS keeps for itself.
	metaPrefix = ".wh..wh."
)

// Mark is what a directory entry's name says about whiteouts.
type Mark uint8

// The marks that a name can be.
const (
	None   Mark = iota // an ordinary name
	Delete             // deletes the name that follows the prefix
	Opaque             // makes its directory opaque
	Meta               // another private name of AUFS: hidden, says nothing
)

// ParseName reads an entry's name. For Delete, target is the name deleted.
func ParseName(name string) (m Mark, target string) {
	switch {
	case !strings.HasPrefix(name, Prefix):
		return None, ""
	case name == OpaqueName:
		return Opaque, ""
	case strings.HasPrefix(name, metaPrefix) || name == Prefix:
		return Meta, ""
	}
	return Delete, name[len(Prefix):]
}

// DeleteName is the name of the .wh. whiteout that deletes name.
func DeleteName(name string) string { return Prefix + name }
