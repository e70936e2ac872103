package run

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"mica/run/record"
)

// CopyOptions say how files are copied between a container and the host.
type CopyOptions struct {
	Archive    bool // keep owners
	FollowLink bool // of the source
}

// contentOf tells whether a path asks for a directory's content, as "dir/." does.
func contentOf(p string) bool { return strings.HasSuffix(p, "/.") || p == "." }

// CopyToHost copies a path of the container to the host, by the rules of cp.
func (e *Engine) CopyToHost(ctx context.Context, c *record.Container, src, dst string, opt CopyOptions) error {
	st, err := e.Stat(ctx, c, src, opt.FollowLink || strings.HasSuffix(src, "/"))
	if err != nil {
		return err
	}
	if st == nil {
		return fmt.Errorf("there is no %s in container %s", src, c.Config.Name)
	}
	dir, name, err := target(st.IsDir(), st.Name, src, dst, func(p string) (isDir, exists bool) {
		fi, err := os.Stat(p)
		return err == nil && fi.IsDir(), err == nil
	})
	if err != nil {
		return err
	}
	if name == "" {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	r, w := io.Pipe()
	go func() { w.CloseWithError(e.CopyOut(ctx, c, src, name, opt.FollowLink, w)) }()
	defer r.Close()
	return unpack(r, root, opt.Archive && os.Geteuid() == 0)
}

// CopyFromHost copies a path of the host into the container, by the rules of
// cp.
func (e *Engine) CopyFromHost(ctx context.Context, c *record.Container, src, dst string, opt CopyOptions) error {
	stat := os.Lstat
	if opt.FollowLink || strings.HasSuffix(src, "/") || contentOf(src) {
		stat = os.Stat
	}
	fi, err := stat(src)
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(src)
	if err != nil {
		return err
	}
	var statErr error
	dir, name, err := target(fi.IsDir(), filepath.Base(abs), src, dst, func(p string) (isDir, exists bool) {
		st, err := e.Stat(ctx, c, p, true)
		if err != nil {
			statErr = err
		}
		return st != nil && st.IsDir(), st != nil
	})
	if statErr != nil {
		return statErr
	}
	if err != nil {
		return err
	}
	if opt.FollowLink {
		if abs, err = filepath.EvalSymlinks(abs); err != nil {
			return err
		}
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(packHost(w, abs, name)) }()
	defer r.Close()
	return e.CopyIn(ctx, c, dir, opt.Archive, r)
}

// target finds the directory into which a source goes and the name that it
// gets there; with the empty name its content goes into the directory itself.
func target(srcIsDir bool, srcName, src, dst string, look func(string) (isDir, exists bool)) (dir, name string, err error) {
	if dst == "" {
		dst = "/"
	}
	isDir, exists := look(dst)
	switch {
	case srcIsDir && exists && !isDir:
		return "", "", fmt.Errorf("cannot copy the directory %s over the file %s", src, dst)
	case srcIsDir && contentOf(src), srcIsDir && !exists:
		if !exists {
			if parentIsDir, _ := look(path.Dir(path.Clean(dst))); !parentIsDir {
				return "", "", fmt.Errorf("there is no directory %s to copy to", path.Dir(path.Clean(dst)))
			}
		}
		return dst, "", nil
	case isDir:
		return dst, srcName, nil
	case strings.HasSuffix(dst, "/"):
		return "", "", fmt.Errorf("there is no directory %s to copy to", dst)
	}
	dir = path.Dir(dst)
	if parentIsDir, _ := look(dir); !parentIsDir {
		return "", "", fmt.Errorf("there is no directory %s to copy to", dir)
	}
	return dir, path.Base(dst), nil
}

// packHost writes a file or directory of the host as a tar stream in which it
// is called name; with the empty name a directory's content stands at the top.
func packHost(w io.Writer, src, name string) error {
	tw := tar.NewWriter(w)
	err := filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		entry := path.Join(name, filepath.ToSlash(rel))
		if entry == "." {
			return nil
		}
		return packEntry(tw, p, entry)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

func packEntry(tw *tar.Writer, p, name string) error {
	fi, err := os.Lstat(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	link := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(p); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(fi, link)
	if err != nil {
		return err
	}
	h.Name, h.Format, h.Uname, h.Gname = name, tar.FormatPAX, "", ""
	if fi.IsDir() {
		h.Name += "/"
	}
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if !fi.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.CopyN(tw, f, h.Size); err != nil {
		return fmt.Errorf("read %s: %w", p, err)
	}
	return nil
}
