package archive

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// PackRoot writes what lies at a path below a directory of the host, and all below it, as a tar stream in which it is called name;
// with the empty name a directory's content stands at the top. Symlinks are followed inside of the directory only.
func PackRoot(w io.Writer, root *os.Root, start, name string, follow bool) error {
	look := root.Lstat
	if follow || name == "" {
		look = root.Stat
	}
	fi, err := look(start)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		sub, err := root.OpenRoot(start)
		if err != nil {
			return err
		}
		defer sub.Close()
		root, start = sub, "."
	}
	tw := tar.NewWriter(w)
	if err := packTree(tw, root, start, name, follow, make(Links)); err != nil {
		return err
	}
	return tw.Close()
}

// packTree writes an object, under a name unless that is empty, and all below it. Package fs cannot walk here: it refuses
// names that are not UTF-8.
func packTree(tw *tar.Writer, root *os.Root, p, name string, follow bool, links Links) error {
	if name != "" {
		if err := packRooted(tw, root, p, name, follow, links); err != nil {
			return err
		}
	}
	look := root.Lstat
	if follow {
		look = root.Stat
	}
	fi, err := look(p)
	if errors.Is(err, os.ErrNotExist) || err == nil && !fi.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	dir, err := root.Open(p)
	if err != nil {
		return err
	}
	entries, err := dir.ReadDir(-1)
	dir.Close()
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if err := packTree(tw, root, path.Join(p, e.Name()), path.Join(name, e.Name()), false, links); err != nil {
			return err
		}
	}
	return nil
}

// packRooted writes one object.
func packRooted(tw *tar.Writer, root *os.Root, p, name string, follow bool, links Links) error {
	look := root.Lstat
	if follow {
		look = root.Stat
	}
	fi, err := look(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	h, err := hostHeader(fi, name, links, func() (string, error) { return root.Readlink(p) })
	if err != nil || h == nil {
		return err
	}
	if h.Uid == os.Geteuid() { // where there is one owner, it is root to the container
		h.Uid, h.Gid = 0, 0
	}
	if h.Typeflag != tar.TypeReg {
		return tw.WriteHeader(h)
	}
	f, err := openRegular(root, p, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	return packContent(tw, h, f)
}
