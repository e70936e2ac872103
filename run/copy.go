package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mica/run/archive"
	"mica/run/control"
	"mica/run/record"
	"mica/run/tree"
)

// CopyOptions say how files are copied between a container and the host.
type CopyOptions struct {
	Archive    bool // keep owners
	FollowLink bool // of the source
}

// contentOf tells whether a path asks for a directory's content, as "dir/." does.
func contentOf(p string) bool { return strings.HasSuffix(p, "/.") || p == "." }

// asDirectory tells whether a path can only be that of a directory, whose symlinks are followed.
func asDirectory(p string) bool { return strings.HasSuffix(p, "/") || contentOf(p) }

// CopyToHost copies a path of the container to the host, by the rules of cp.
func (e *Engine) CopyToHost(ctx context.Context, c *record.Container, src, dst string, opt CopyOptions) error {
	follow := opt.FollowLink || asDirectory(src)
	st, err := e.Stat(ctx, c, src, follow)
	if err != nil {
		return err
	}
	if st == nil {
		return fmt.Errorf("there is no %s in container %s", src, c.Config.Name)
	}
	if asDirectory(src) && !st.IsDir() {
		return fmt.Errorf("%s is not a directory in container %s", src, c.Config.Name)
	}
	abs, err := filepath.Abs(dst)
	if err != nil {
		return err
	}
	if path.Clean("/"+src) == "/" {
		src = "/." // it has no name of its own
	}
	dir, name, err := target(st.IsDir(), st.Name, src, abs+trailing(dst), hostStat)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if st.IsDir() && name != "" {
		// The directory itself bounds what is written: its content comes from the container, with symlinks in it.
		if root, err = enter(root, name); err != nil {
			return err
		}
		defer root.Close()
		name = "."
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(e.CopyOut(ctx, c, src, name, follow, w)) }()
	defer r.Close()
	return archive.Unpack(r, root, root.Name(), opt.Archive && os.Geteuid() == 0, false)
}

// enter makes a directory, if there is none, and opens it.
func enter(root *os.Root, name string) (*os.Root, error) {
	err := root.Mkdir(name, 0o700)
	if p := new(fs.PathError); errors.As(err, &p) && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make directory %s: %w", filepath.Join(root.Name(), name), p.Err)
	}
	if fi, err := root.Lstat(name); err != nil {
		return nil, err
	} else if !fi.IsDir() {
		return nil, fmt.Errorf("%s is there and no directory", filepath.Join(root.Name(), name))
	}
	return root.OpenRoot(name)
}

// CopyFromHost copies a path of the host into the container, by the rules of
// cp.
func (e *Engine) CopyFromHost(ctx context.Context, c *record.Container, src, dst string, opt CopyOptions) error {
	follow := opt.FollowLink || asDirectory(src)
	stat := os.Lstat
	if follow {
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
	inContainer := func(p string) (*control.PathStat, error) { return e.Stat(ctx, c, p, false) }
	dir, name, err := target(fi.IsDir(), filepath.Base(abs), src, path.Clean("/"+dst)+trailing(dst), inContainer)
	if err != nil {
		return err
	}
	if follow {
		if abs, err = filepath.EvalSymlinks(abs); err != nil {
			return err
		}
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(archive.Pack(w, abs, name)) }()
	defer r.Close()
	return e.CopyIn(ctx, c, dir, opt.Archive, r)
}

// trailing keeps the end of a path that means something: "/" and "/.".
func trailing(p string) string {
	switch {
	case contentOf(p):
		return "/."
	case strings.HasSuffix(p, "/"):
		return "/"
	}
	return ""
}

// target finds the directory into which a source goes and the name that it
// gets there; with the empty name its content goes into the directory itself. dst is absolute, and a symlink is followed to
// where it leads, even if there is nothing yet. lstat describes a path, nil where there is nothing.
func target(srcIsDir bool, srcName, src, dst string, lstat func(string) (*control.PathStat, error)) (dir, name string, err error) {
	onlyDir := asDirectory(dst)
	// What is mounted refuses here what its symlinks lead out of it to.
	if _, err := lstat(path.Clean(dst)); err != nil {
		return "", "", err
	}
	dst, st, err := tree.Follow(path.Clean(dst), lstat)
	if err != nil {
		return "", "", err
	}
	switch {
	case st != nil && st.IsDir() && srcIsDir && contentOf(src):
		return dst, "", nil
	case st != nil && st.IsDir():
		return dst, srcName, nil
	case st != nil && srcIsDir:
		return "", "", fmt.Errorf("cannot copy the directory %s over the file %s", src, dst)
	case onlyDir && !srcIsDir:
		return "", "", fmt.Errorf("there is no directory %s to copy to", dst)
	}
	dir, parent, err := tree.Follow(path.Dir(dst), lstat)
	if err != nil {
		return "", "", err
	}
	if parent == nil || !parent.IsDir() {
		return "", "", fmt.Errorf("there is no directory %s to copy to", path.Dir(dst))
	}
	return dir, path.Base(dst), nil
}

// hostStat describes a path of the host, nil where there is nothing.
func hostStat(p string) (*control.PathStat, error) {
	fi, err := os.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st := &control.PathStat{Name: fi.Name(), Size: fi.Size(), Mtime: fi.ModTime().UTC()}
	if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
		st.Mode = sys.Mode
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		st.Target, err = os.Readlink(p)
	}
	return st, err
}
