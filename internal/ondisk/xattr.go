package ondisk

import "strings"

// escapePrefix stands before the image's name of an attribute that cannot be
// stored under that name.
const escapePrefix = "user.mica.x."

// PrivatePrefix is the name space in which mica keeps its own marks.
const PrivatePrefix = "user.mica."

// private lists the prefixes that an image may neither see nor forge on disk.
var private = [...]string{
	PrivatePrefix, "user.containers.", "user.overlay.", "user.fuseoverlayfs.",
	"trusted.overlay.", "trusted.mica.",
}

// Private tells whether a name on disk is a mark of a union filesystem rather
// than an attribute of the image.
func Private(name string) bool {
	for _, p := range private {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// StoredXattr gives the name on disk of the attribute that the image calls
// name: itself if a plain user may set it, else an escaped form.
func StoredXattr(name string) string {
	if strings.HasPrefix(name, "user.") && !Private(name) {
		return name
	}
	return escapePrefix + name
}

// ImageXattr is the inverse of [StoredXattr]; ok is false for names on disk
// that the image does not see.
func ImageXattr(stored string) (name string, ok bool) {
	if rest, escaped := strings.CutPrefix(stored, escapePrefix); escaped {
		return rest, rest != ""
	}
	if Private(stored) || !strings.HasPrefix(stored, "user.") {
		return "", false
	}
	return stored, true
}
