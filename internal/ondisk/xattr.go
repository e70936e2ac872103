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

// overlayMarks are the prefixes of kernel overlayfs's own marks. Where owners are real, the same marks of an image are escaped as
// kernel overlayfs does it, by another "overlay." after the prefix.
var overlayMarks = [...]string{"user.overlay.", "trusted.overlay."}

// PlainXattr gives the name on disk, where owners are real, of the attribute that the image calls name: itself unless it is the
// mark of a union, as one inside the image makes them.
func PlainXattr(name string) string {
	for _, p := range overlayMarks {
		if rest, ok := strings.CutPrefix(name, p); ok {
			return p + "overlay." + rest
		}
	}
	if Private(name) {
		return escapePrefix + name
	}
	return name
}

// PlainImageXattr is the inverse of [PlainXattr]; ok is false for names on disk that the image does not see.
func PlainImageXattr(plain string) (name string, ok bool) {
	for _, p := range overlayMarks {
		if rest, escaped := strings.CutPrefix(plain, p+"overlay."); escaped {
			return p + rest, true
		}
	}
	if rest, escaped := strings.CutPrefix(plain, escapePrefix); escaped {
		// Anything else is no escape but an attribute of an upper with stored owners.
		return rest, Private(rest) && PlainXattr(rest) == plain
	}
	return plain, !Private(plain)
}
