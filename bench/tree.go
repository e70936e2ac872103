package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"golang.org/x/sys/unix"
)

// entry is one object of a generated tree.
type entry struct {
	path   string
	mode   fs.FileMode // type and permissions
	size   int         // of generated content
	target string      // symlink
	linkTo string      // earlier regular file of the same layer of which this is a hard link
	source string      // file to copy the content from, instead of generated content
	layer  int
	// old puts an earlier version of a regular file in this lower layer as well; 0 for none.
	old int
}

// treeTime is the modification time of everything generated, so that listings are the same everywhere.
func treeTime() time.Time { return time.Unix(1700000000, 0) }

// fill writes deterministic bytes for a seed. They do not compress, so that no filesystem gets them for less.
func fill(b []byte, seed string) {
	h := fnv.New64a()
	_, _ = h.Write([]byte(seed)) // a hash's Write never fails
	x := h.Sum64() | 1
	var word [8]byte
	for i := 0; i < len(b); i += 8 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		binary.LittleEndian.PutUint64(word[:], x)
		copy(b[i:], word[:])
	}
}

// writeTree makes the entries below root. Parents are made as needed. Only entries of the given layer are taken; layer
// -1 takes all, which gives the merged tree.
func writeTree(root string, layer int, entries []entry) error {
	dirs, modes := map[string]bool{root: true}, map[string]fs.FileMode{}
	for _, e := range entries {
		if e.mode.IsDir() {
			modes[filepath.Join(root, e.path)] = e.mode.Perm()
		}
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("make tree: %w", err)
	}
	var buf []byte
	for _, e := range entries {
		seed := e.path
		if layer >= 0 && e.layer != layer {
			if e.old == 0 || e.old != layer {
				continue
			}
			seed += " before"
		}
		p := filepath.Join(root, e.path)
		parent := filepath.Dir(p)
		if !dirs[parent] {
			if err := os.MkdirAll(parent, 0o755); err != nil {
				return fmt.Errorf("make tree: %w", err)
			}
			for d := parent; !dirs[d]; d = filepath.Dir(d) {
				dirs[d] = true
				if mode, ok := modes[d]; ok {
					if err := os.Chmod(d, mode); err != nil {
						return fmt.Errorf("make tree: %w", err)
					}
				}
			}
		}
		if cap(buf) < e.size {
			buf = make([]byte, e.size)
		}
		if err := writeEntry(root, p, e, seed, buf[:e.size]); err != nil {
			return err
		}
		if e.mode.IsDir() {
			dirs[p] = true
		}
	}
	return stampDirs(dirs)
}

func writeEntry(root, p string, e entry, seed string, buf []byte) error {
	var err error
	switch {
	case e.mode.IsDir():
		if err = os.MkdirAll(p, 0o755); err == nil {
			err = os.Chmod(p, e.mode.Perm())
		}
	case e.mode&fs.ModeSymlink != 0:
		if err = os.Symlink(e.target, p); err == nil {
			ts := unix.NsecToTimespec(treeTime().UnixNano())
			err = unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
		}
	case e.linkTo != "":
		err = os.Link(filepath.Join(root, e.linkTo), p)
	case e.source != "":
		if err = copyFile(e.source, p, e.mode.Perm()); err == nil {
			err = os.Chtimes(p, treeTime(), treeTime())
		}
	default:
		fill(buf, seed)
		if err = os.WriteFile(p, buf, e.mode.Perm()); err == nil {
			err = os.Chtimes(p, treeTime(), treeTime())
		}
	}
	if err != nil {
		return fmt.Errorf("make %s: %w", p, err)
	}
	return nil
}

// stampDirs sets the times of directories, deepest first, after everything in them was made.
func stampDirs(dirs map[string]bool) error {
	sorted := make([]string, 0, len(dirs))
	for d := range dirs {
		sorted = append(sorted, d)
	}
	sort.Sort(sort.Reverse(sort.StringSlice(sorted)))
	for _, d := range sorted {
		if err := os.Chtimes(d, treeTime(), treeTime()); err != nil {
			return fmt.Errorf("set times: %w", err)
		}
	}
	return nil
}

// copyFile copies content, by reflink where the filesystem can.
func copyFile(from, to string, perm fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) != nil {
		_, err = io.Copy(out, in)
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("copy file: %w", err)
	}
	return nil
}

// copyTree copies a tree with modes, times, symlinks and hard links.
func copyTree(from, to string) error {
	links := map[uint64]string{}
	dirs := map[string]bool{}
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		e := entry{path: rel, mode: d.Type() | fs.FileMode(st.Mode&0o777), source: p}
		switch {
		case d.IsDir():
			dirs[dst] = true
		case d.Type()&fs.ModeSymlink != 0:
			if e.target, err = os.Readlink(p); err != nil {
				return err
			}
		case !d.Type().IsRegular():
			return nil
		case st.Nlink > 1:
			e.linkTo = links[st.Ino]
			links[st.Ino] = rel
		}
		return writeEntry(to, dst, e, "", nil)
	})
	if err != nil {
		return fmt.Errorf("copy tree: %w", err)
	}
	return stampDirs(dirs)
}

// treeSum is a checksum over names, types, sizes and contents below root, the same for equal trees.
func treeSum(root string) (string, error) {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum, count := crc32.New(table), 0
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		var content []byte
		switch {
		case d.Type().IsRegular():
			content, err = os.ReadFile(p)
		case d.Type()&fs.ModeSymlink != 0:
			var target string
			target, err = os.Readlink(p)
			content = []byte(target)
		}
		if err != nil {
			return err
		}
		count++
		_, err = fmt.Fprintf(sum, "%s %s %08x\n", rel, d.Type(), crc32.Checksum(content, table))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("sum tree: %w", err)
	}
	return fmt.Sprintf("%d objects, %08x", count, sum.Sum32()), nil
}

// removeTree removes a tree, also one with directories that its owner may not enter, as kernel overlayfs leaves in work.
func removeTree(root string) error {
	if os.RemoveAll(root) == nil {
		return nil
	}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			return os.Chmod(p, 0o700)
		}
		return err
	})
	if err = errors.Join(err, os.RemoveAll(root)); err != nil {
		return fmt.Errorf("remove tree: %w", err)
	}
	return nil
}

// lineSum counts the lines written to it and sums their checksums, so that their order does not matter.
type lineSum struct {
	lines int
	sum   uint32
	rest  []byte
}

func (l *lineSum) Write(b []byte) (int, error) {
	n := len(b)
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			l.rest = append(l.rest, b...)
			return n, nil
		}
		l.rest = append(l.rest, b[:i]...)
		l.lines++
		l.sum += crc32.ChecksumIEEE(l.rest)
		l.rest = l.rest[:0]
		b = b[i+1:]
	}
}
