package fstest

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
)

// WriteTree writes a merged tree into the empty directory dir.
func WriteTree(dir string, root *Node) error {
	w := &treeWriter{links: map[*Node]string{}}
	return w.fillDir(dir, root)
}

// WriteLayer writes a layer into the empty directory dir, its whiteouts in the
// layer's spelling. A stored layer has all owners and modes in attributes, as
// package ondisk spells them; links are of the names on disk.
func WriteLayer(dir string, l Layer, stored bool) error {
	w := &treeWriter{links: map[*Node]string{}, layer: true, spelling: l.Spelling, stored: stored}
	return w.fillDir(dir, l.Root)
}

type treeWriter struct {
	links    map[*Node]string // first name of each node that is not a directory
	layer    bool
	stored   bool
	spelling Spelling
	marker   string // first .wh. file, for DotWhLinked
}

func (w *treeWriter) fillDir(dir string, n *Node) error {
	xattrWh := false
	for _, name := range n.Names() {
		k := n.Kids[name]
		var err error
		if k.Kind == Whiteout {
			if w.spelling == XattrWh && n.Opaque {
				continue // it would say nothing, and opaque has one value only
			}
			xattrWh = xattrWh || w.spelling == XattrWh
			err = w.whiteout(dir, name)
		} else {
			err = w.node(filepath.Join(dir, name), k)
		}
		if err != nil {
			return err
		}
	}
	if err := w.marks(dir, n.Opaque, xattrWh); err != nil {
		return err
	}
	return w.meta(dir, n)
}

func (w *treeWriter) node(path string, n *Node) error {
	if first, ok := w.links[n]; ok {
		return os.Link(first, path)
	}
	if w.stored && n.Kind != Dir && n.Kind != File {
		w.links[n] = path
		return writePlaceholder(path, n)
	}
	var err error
	switch n.Kind {
	case Dir:
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		return w.fillDir(path, n)
	case File:
		err = writeData(path, n.Data)
	case Symlink:
		err = os.Symlink(n.Target, path)
	case Fifo:
		err = unix.Mknod(path, unix.S_IFIFO|0o600, 0)
	case Socket:
		err = unix.Mknod(path, unix.S_IFSOCK|0o600, 0)
	default:
		err = fmt.Errorf("unknown kind %q", n.Kind)
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	w.links[n] = path
	return w.meta(path, n)
}

func writeData(path string, d Data) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(d.Size); err != nil {
		return err
	}
	for _, e := range d.Extents {
		buf := make([]byte, min(e.Len, d.Size-e.Off))
		fill(buf, e.Seed, e.Off)
		if _, err := f.WriteAt(buf, e.Off); err != nil {
			return err
		}
	}
	return nil
}

func (w *treeWriter) meta(path string, n *Node) error {
	set := func(name, value string) error {
		if w.stored {
			name = ondisk.StoredXattr(name)
		}
		if err := unix.Lsetxattr(path, name, []byte(value), 0); err != nil {
			return fmt.Errorf("set %s of %q: %w", name, path, err)
		}
		return nil
	}
	for name, v := range n.Xattrs {
		if name == fileCaps && !w.stored {
			continue
		}
		if err := set(name, v); err != nil {
			return err
		}
	}
	if w.stored {
		if err := storeMeta(path, n); err != nil {
			return fmt.Errorf("store owner and mode of %q: %w", path, err)
		}
		return setTimes(path, n)
	}
	if os.Geteuid() == 0 {
		if err := os.Lchown(path, int(n.UID), int(n.GID)); err != nil {
			return err
		}
	}
	if caps, ok := n.Xattrs[fileCaps]; ok { // a change of the owner takes them
		if err := set(fileCaps, caps); err != nil {
			return err
		}
	}
	if n.Kind != Symlink {
		if err := unix.Chmod(path, n.Perm); err != nil {
			return fmt.Errorf("chmod %q: %w", path, err)
		}
	}
	return setTimes(path, n)
}

func setTimes(path string, n *Node) error {
	ts := []unix.Timespec{n.Mtime, n.Mtime}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set times of %q: %w", path, err)
	}
	return nil
}

func (w *treeWriter) whiteout(dir, name string) error {
	if len(name) > 251 && (w.spelling == DotWh || w.spelling == DotWhLinked) {
		w2 := treeWriter{spelling: Device}
		return w2.whiteout(dir, name)
	}
	path := filepath.Join(dir, name)
	switch w.spelling {
	case DotWh:
		return os.WriteFile(filepath.Join(dir, ".wh."+name), nil, 0o600)
	case DotWhLinked:
		return w.linkedMarker(filepath.Join(dir, ".wh."+name))
	case XattrWh:
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			return err
		}
		return unix.Setxattr(path, "user.overlay.whiteout", []byte("y"), 0)
	}
	return unix.Mknod(path, unix.S_IFCHR, 0)
}

func (w *treeWriter) linkedMarker(path string) error {
	if w.marker != "" {
		return os.Link(w.marker, path)
	}
	w.marker = path
	return os.WriteFile(path, nil, 0o600)
}

func (w *treeWriter) marks(dir string, opaque, xattrWh bool) error {
	if !w.layer {
		return nil
	}
	switch {
	case opaque && w.spelling == DotWh:
		return os.WriteFile(filepath.Join(dir, ".wh..wh..opq"), nil, 0o600)
	case opaque && w.spelling == DotWhLinked:
		return w.linkedMarker(filepath.Join(dir, ".wh..wh..opq"))
	case opaque && w.spelling == FuseOverlayfs:
		return unix.Setxattr(dir, "user.fuseoverlayfs.opaque", []byte("y"), 0)
	case xattrWh:
		return unix.Setxattr(dir, "user.overlay.opaque", []byte("x"), 0)
	case opaque:
		return unix.Setxattr(dir, "user.overlay.opaque", []byte("y"), 0)
	}
	return nil
}
