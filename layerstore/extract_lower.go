package layerstore

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/whiteout"
)

// lowerObject is what one lower layer says of a path.
type lowerObject struct {
	found  bool
	hidden bool // the layers further down no longer count for this path
	isDir  bool
	dirfd  int    // when found: the object's directory, for the caller to close
	name   string // in dirfd; empty for the layer's root
}

// lookLower looks for the object p in the unpacked layer at dir.
func lookLower(dir, p string) (l lowerObject, err error) {
	fd, err := sys.OpenDir(unix.AT_FDCWD, dir)
	if err != nil {
		return l, fmt.Errorf("open layer: %w", err)
	}
	defer func() {
		if !l.found {
			sys.Close(fd)
		}
	}()
	if p == "" {
		return lowerObject{found: true, isDir: true, dirfd: fd}, nil
	}
	for rest := p; ; {
		name, tail, deeper := strings.Cut(rest, "/")
		marks, err := whiteout.ReadDir(fd)
		if err != nil {
			return l, err
		}
		var st unix.Statx_t
		l.hidden = l.hidden || marks.Opaque || sys.Stat(fd, whiteout.OpaqueName, &st) == nil
		err = sys.Stat(fd, name, &st)
		if err == unix.ENOENT {
			l.hidden = l.hidden || sys.Stat(fd, whiteout.DeleteName(name), &st) == nil
			return l, nil
		}
		if err != nil {
			return l, err
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if whiteout.IsDevice(&st) || deeper && !isDir {
			l.hidden = true
			return l, nil
		}
		if !deeper {
			l.found, l.isDir, l.dirfd, l.name = true, isDir, fd, name
			return l, nil
		}
		next, err := sys.OpenDir(fd, name)
		if err != nil {
			return l, err
		}
		sys.Close(fd)
		fd, rest = next, tail
	}
}

// inherit gives a directory that the archive uses without an entry the
// metadata that it has in the layers below: an archive of changes may leave
// unchanged directories out. Without any there, it stays as it was made.
func (x *extractor) inherit(at place) error {
	p := at.path()
	if x.hidesLower(p) {
		x.times = append(x.times, dirTime{path: p})
		return nil
	}
	// Even where the layers below have no such directory: others may.
	x.result.Chained = true
	for _, lower := range x.lowers {
		l, err := lookLower(lower, p)
		if err != nil {
			return fmt.Errorf("look below: %w", err)
		}
		if l.found {
			defer sys.Close(l.dirfd)
			if !l.isDir {
				break
			}
			return x.copyMeta(at, l)
		}
		if l.hidden {
			break
		}
	}
	x.times = append(x.times, dirTime{path: p})
	return nil
}

func (x *extractor) copyMeta(at place, l lowerObject) error {
	o, st, err := ondisk.Read(l.dirfd, l.name)
	if err != nil {
		return fmt.Errorf("look below: %w", err)
	}
	if err := x.replaceMeta(at, o); err != nil {
		return err
	}
	x.times = append(x.times, dirTime{at.path(), statTime(st.Atime), statTime(st.Mtime)})
	return nil
}

// hidesLower tells whether this layer hides what lies below at p, as far as its archive
// has been read.
func (x *extractor) hidesLower(p string) bool {
	if len(x.opaque) == 0 {
		return false
	}
	for {
		if x.opaque[p] {
			return true
		}
		if p == "" {
			return false
		}
		p, _ = splitPath(p)
	}
}

// setOpaque marks the directory name in dirfd, whose path is p.
func (x *extractor) setOpaque(dirfd int, name, p string) error {
	if err := x.style.SetOpaque(dirfd, name); err != nil {
		return fmt.Errorf("mark directory opaque: %w", err)
	}
	x.opaque[p] = true
	return nil
}
