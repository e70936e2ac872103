package cow

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// mountInside is a filesystem that is mounted inside of a layer.
type mountInside struct {
	path string // in the layer
	dev  uint64
}

// findMounts gives the filesystems that are mounted inside of layers their inode spaces. They are called by where they are
// mounted, first in the order of names if at several places: that stays the same when devices get other numbers.
func (f *FS) findMounts() error {
	var all []mountInside
	for _, l := range f.layers {
		if !l.mounts {
			continue
		}
		root, err := os.Readlink(sys.FdPath(l.rootFD))
		if err != nil {
			return err
		}
		if l.inside, err = mountsBelow(root); err != nil {
			return err
		}
		all = append(all, l.inside...)
	}
	slices.SortStableFunc(all, func(a, b mountInside) int { return cmp.Compare(a.path, b.path) })
	for _, m := range all {
		if _, known := f.inos.space(m.dev); !known {
			f.inos.enter(m.dev, "mount "+m.path)
		}
	}
	return nil
}

// mountsBelow finds the filesystems that are mounted below a directory.
func mountsBelow(root string) ([]mountInside, error) {
	table, err := sys.Mounts()
	if err != nil {
		return nil, err
	}
	var list []mountInside
	for _, m := range table {
		rel, below := strings.CutPrefix(m.Point, strings.TrimSuffix(root, "/")+"/")
		if !below || rel == "" {
			continue
		}
		if m.Type == "btrfs" { // its files have the device of their subvolume
			var st unix.Stat_t
			if unix.Lstat(m.Point, &st) != nil {
				continue
			}
			m.Dev = st.Dev
		}
		list = append(list, mountInside{rel, m.Dev})
	}
	return list, nil
}
