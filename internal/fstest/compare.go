package fstest

import (
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// identity is an object of the plain side, for as long as it lives.
type identity struct {
	ino  uint64
	born int64
}

// inodes remembers which inode number the union shows for each object, so as
// to see that it is unique and never changes.
type inodes struct {
	union map[identity]uint64
	// born is when each was made, as the union shows it. A copy-up changes
	// that of an object that is older than mounted; nothing else changes it.
	born    map[identity]int64
	mounted int64
	// looseBorn lets that of symlinks change, which become placeholders.
	looseBorn bool
	// looseSpecial lets those of objects change that are neither regular files
	// nor directories.
	looseSpecial bool
}

// diff compares snapshots of the plain side and the union. It returns the
// differences, one line each, at most a few.
func (in *inodes) diff(plain, union snapshot) []string {
	var out []string
	add := func(format string, a ...any) {
		if len(out) < 8 {
			out = append(out, fmt.Sprintf(format, a...))
		}
	}
	// A kernel without FUSE_STATX cannot ask for birth times: then not even
	// the root has one.
	tellsBorn := union[""] == nil || union[""].born != 0
	owner := map[uint64]identity{} // of inode numbers of the union
	for _, p := range slices.Sorted(maps.Keys(plain)) {
		a, b := plain[p], union[p]
		if b == nil {
			add("%q is missing: it should be %s", p, a.what)
			continue
		}
		if a.what != b.what {
			add("%q\n\tplain %s\n\tunion %s", p, a.what, b.what)
		}
		id := identity{a.ino, a.born}
		if was, ok := owner[b.ino]; ok && was != id {
			add("%q has inode %d, which another object has", p, b.ino)
		}
		owner[b.ino] = id
		if was, ok := in.union[id]; ok && was != b.ino && !(in.looseSpecial && a.typ<<12 != unix.S_IFREG && !a.dir) {
			add("%q had inode %d and has %d now", p, was, b.ino)
		}
		in.union[id] = b.ino
		if tellsBorn {
			in.checkBorn(add, p, id, b)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(union)) {
		if plain[p] == nil {
			add("%q should not be there: %s", p, union[p].what)
		}
		if union[p].dev != union[""].dev {
			add("%q has device %#x, the root %#x", p, union[p].dev, union[""].dev)
		}
	}
	return out
}

// checkBorn adds a difference if the union shows another birth time of an
// object than before.
func (in *inodes) checkBorn(add func(string, ...any), p string, id identity, b *entry) {
	was, ok := in.born[id]
	in.born[id] = b.born
	switch {
	case !ok && b.born == 0 && id.born != 0:
		add("%q has no birth time", p)
	case !ok || was == b.born || in.looseBorn && b.typ<<12 == unix.S_IFLNK:
	case was >= in.mounted || b.born < in.mounted:
		add("%q was born at %d, and is said to be born at %d now", p, was, b.born)
	}
}

// forget drops what is known of inode numbers, as a remount of a union that
// does not keep them needs.
func (in *inodes) forget() { in.union, in.born = map[identity]uint64{}, map[identity]int64{} }
