package build

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
	"golang.org/x/sys/unix"

	"mica/run/archive"
	"mica/run/control"
	"mica/run/tree"
)

// Dir is a directory of the host that a build takes files from, without those that its ignore file names. Nothing outside of it is
// read, whatever symlinks say.
type Dir struct {
	root   *os.Root
	ignore *patternmatcher.PatternMatcher
}

// OpenDir opens a directory for a build. The ignore file is the first that is there of ignoreFiles: paths of the host, and names in
// the directory, which lead nowhere else.
func OpenDir(dir string, ignoreFiles ...string) (*Dir, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, err
	}
	d := &Dir{root: root}
	var patterns []string
	for _, name := range ignoreFiles {
		data, err := d.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			patterns, err = ignorefile.ReadAll(bytes.NewReader(data))
		}
		if err != nil {
			root.Close()
			return nil, err
		}
		break
	}
	if d.ignore, err = patternmatcher.New(patterns); err != nil {
		root.Close()
		return nil, fmt.Errorf("patterns of files to ignore: %w", err)
	}
	return d, nil
}

// maxDockerfile bounds the files that say what is built, and of what.
const maxDockerfile = 16 << 20

// ReadFile reads a regular file: a path of the host if it is absolute, or else one of the directory, which leads nowhere else.
func (d *Dir) ReadFile(name string) ([]byte, error) {
	open := d.root.OpenFile
	if filepath.IsAbs(name) {
		open = os.OpenFile
	}
	f, err := open(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxDockerfile {
		return nil, fmt.Errorf("read %s: it is no regular file of a sensible size", name)
	}
	return io.ReadAll(f)
}

// Close gives the directory up.
func (d *Dir) Close() { d.root.Close() }

// ignored tells whether the patterns leave a path out, and be it but a directory on the way to what they take back in.
func (d *Dir) ignored(p string) (bool, error) {
	if p == "." {
		return false, nil
	}
	return d.ignore.MatchesOrParentMatches(p)
}

// leftOut tells whether there is nothing at a path once the patterns are heeded.
func (d *Dir) leftOut(p string, isDir bool) (bool, error) {
	out, err := d.ignored(p)
	if !out || err != nil || !isDir || !d.ignore.Exclusions() {
		return out, err
	}
	entries, err := d.entries(p)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if out, err := d.leftOut(path.Join(p, e.Name()), e.IsDir()); !out || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (d *Dir) find(_ context.Context, p string) (string, *control.PathStat, error) {
	at, st, err := tree.Follow(p, d.lstat)
	if err == nil && st == nil {
		err = notThere(p)
	}
	if err != nil {
		return "", nil, err
	}
	for _, name := range []string{path.Clean("/" + p), at} {
		out, err := d.leftOut(relative(name), st.IsDir())
		if err != nil {
			return "", nil, err
		}
		if out {
			return "", nil, fmt.Errorf("%w: the ignore file leaves it out", notThere(p))
		}
	}
	return relative(at), st, nil
}

// lstat describes what is at an absolute path as seen from the directory, nil if there is nothing.
func (d *Dir) lstat(p string) (*control.PathStat, error) {
	p = relative(p)
	fi, err := d.root.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st := pathStat(fi)
	if fi.Mode()&fs.ModeSymlink != 0 {
		st.Target, err = d.root.Readlink(p)
	}
	return st, err
}

func pathStat(fi fs.FileInfo) *control.PathStat {
	st := &control.PathStat{Name: fi.Name(), Size: fi.Size(), Mtime: fi.ModTime()}
	if s, ok := fi.Sys().(*syscall.Stat_t); ok {
		st.Mode = s.Mode
	}
	return st
}

func (d *Dir) list(_ context.Context, dir string) ([]*control.PathStat, error) {
	entries, err := d.entries(dir)
	if err != nil {
		return nil, err
	}
	var list []*control.PathStat
	for _, e := range entries {
		p := path.Join(dir, e.Name())
		out, err := d.leftOut(p, e.IsDir())
		if err != nil {
			return nil, err
		}
		if out {
			continue
		}
		fi, err := d.root.Lstat(p)
		if err != nil {
			return nil, err
		}
		list = append(list, pathStat(fi))
	}
	return list, nil
}

// entries lists a directory, sorted by name.
func (d *Dir) entries(dir string) ([]fs.DirEntry, error) {
	return fs.ReadDir(d.root.FS(), dir)
}

// visible gives a directory or file of the host with what is at p, but for what is left out: p itself where nothing is, or else a
// copy in a directory of the build.
func (d *Dir) visible(ctx context.Context, p, scratch string) (string, error) {
	whole := filepath.Join(d.root.Name(), p)
	if len(d.ignore.Patterns()) == 0 {
		return whole, nil
	}
	if fi, err := d.root.Lstat(p); err != nil || !fi.IsDir() {
		return whole, err
	}
	copied, err := os.MkdirTemp(scratch, "visible-")
	if err != nil {
		return "", err
	}
	if err := os.Chmod(copied, 0o755); err != nil {
		return "", err
	}
	root, err := os.OpenRoot(copied)
	if err != nil {
		return "", err
	}
	defer root.Close()
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		tw := tar.NewWriter(w)
		err := d.pack(ctx, p, func(h *tar.Header, content io.Reader) error {
			if h.Typeflag == tar.TypeDir {
				h.Name += "/"
			}
			if err := tw.WriteHeader(h); err != nil || content == nil {
				return err
			}
			_, err := io.CopyN(tw, content, h.Size)
			return err
		})
		if err == nil {
			err = tw.Close()
		}
		w.CloseWithError(err)
	}()
	return copied, archive.Unpack(r, root, "the files of a mount", false, false)
}
