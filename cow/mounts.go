package cow

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
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

// mountsBelow reads the table of mounts; see proc_pid_mountinfo(5).
func mountsBelow(root string) ([]mountInside, error) {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer table.Close()
	var list []mountInside
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 7 {
			continue
		}
		point := unescapeMount(fields[4])
		rel, below := strings.CutPrefix(point, strings.TrimSuffix(root, "/")+"/")
		if !below || rel == "" {
			continue
		}
		var major, minor uint32
		if _, err := fmt.Sscanf(fields[2], "%d:%d", &major, &minor); err != nil {
			continue
		}
		dev := unix.Mkdev(major, minor)
		if i := slices.Index(fields, "-"); i > 0 && i+1 < len(fields) && fields[i+1] == "btrfs" {
			// Its files have the device of their subvolume.
			var st unix.Stat_t
			if unix.Lstat(point, &st) != nil {
				continue
			}
			dev = st.Dev
		}
		list = append(list, mountInside{rel, dev})
	}
	return list, lines.Err()
}

// unescapeMount reads a path of the table of mounts, in which blanks and backslashes are octal numbers.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
