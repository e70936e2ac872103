package build

import (
	"archive/tar"
	"context"
	"io"
	"io/fs"
	"path"
	"strings"
	"syscall"
)

func (d *Dir) pack(ctx context.Context, p string, fn entryFunc) error {
	w := dirWalk{d: d, top: p, fn: fn, links: make(map[[2]uint64]string)}
	return w.walk(ctx, p)
}

// dirWalk packs one directory or file.
type dirWalk struct {
	d       *Dir
	top     string
	fn      entryFunc
	links   map[[2]uint64]string // names of files with several that are packed already
	pending []string             // directories that are left out, on the way to what a later pattern may take back in
}

func (w *dirWalk) walk(ctx context.Context, p string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fi, err := w.d.root.Lstat(p)
	if err != nil {
		return err
	}
	out, err := w.d.ignored(p)
	if err != nil {
		return err
	}
	switch {
	case !out:
		for _, dir := range w.pending {
			st, err := w.d.root.Lstat(dir)
			if err != nil {
				return err
			}
			if err := w.object(dir, st); err != nil {
				return err
			}
		}
		w.pending = w.pending[:0]
		if err := w.object(p, fi); err != nil {
			return err
		}
	case fi.IsDir() && w.d.ignore.Exclusions():
		w.pending = append(w.pending, p)
	default:
		return nil
	}
	if !fi.IsDir() {
		return nil
	}
	entries, err := w.d.entries(p)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.walk(ctx, path.Join(p, e.Name())); err != nil {
			return err
		}
	}
	if n := len(w.pending); n > 0 && w.pending[n-1] == p {
		w.pending = w.pending[:n-1]
	}
	return nil
}

func (w *dirWalk) object(p string, fi fs.FileInfo) error {
	if fi.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	target := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = w.d.root.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(fi, target)
	if err != nil {
		return err
	}
	h.Name, h.Format = path.Join(".", strings.TrimPrefix(strings.TrimPrefix(p, w.top), "/")), tar.FormatPAX
	if w.top == "." {
		h.Name = p
	}
	h.Uid, h.Gid, h.Uname, h.Gname = 0, 0, "", "" // files of the host are root's in an image
	h.AccessTime, h.ChangeTime = h.ModTime, h.ModTime
	if st := fi.Sys().(*syscall.Stat_t); !fi.IsDir() && st.Nlink > 1 {
		id := [2]uint64{uint64(st.Dev), st.Ino}
		if first, ok := w.links[id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return w.fn(h, nil)
		}
		w.links[id] = h.Name
	}
	if h.Typeflag != tar.TypeReg {
		return w.fn(h, nil)
	}
	f, err := w.d.root.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	return w.fn(h, io.LimitReader(f, h.Size))
}
