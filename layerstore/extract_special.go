package layerstore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/whiteout"
)

// whiteoutEntry makes an entry that its name says is a whiteout, whatever its
// type: AUFS wrote whiteouts as hard links. Marks speak of the layers below
// only, so what this layer itself has at the name stays, wherever
// in the archive the mark stands (OCI image specification, "Whiteouts").
func (x *extractor) whiteoutEntry(p string) (marked bool, err error) {
	dirText, name := splitPath(p)
	mark, target := whiteout.ParseName(name)
	if mark == whiteout.None {
		return false, nil
	}
	if mark == whiteout.Meta {
		if name == whiteout.Prefix {
			return true, errors.New("the whiteout names nothing")
		}
		return true, nil
	}
	if mark == whiteout.Delete && (target == "." || target == "..") {
		return true, fmt.Errorf("the whiteout names %q", target)
	}
	dirfd, dir, _, err := x.parent(joinPath(dirText, "x"))
	if err != nil {
		return true, err
	}
	if mark == whiteout.Opaque {
		return true, x.setOpaque(dirfd, "", dir)
	}
	return true, x.delete(place{dirfd, dir, target})
}

// delete makes a whiteout for a name of the layers below.
func (x *extractor) delete(at place) error {
	var st unix.Statx_t
	err := sys.Stat(at.dirfd, at.name, &st)
	switch {
	case err == unix.ENOENT:
		err := x.style.Create(at.dirfd, at.name)
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("make whiteout: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("make whiteout: %w", err)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return x.setOpaque(at.dirfd, at.name, at.path())
	}
	return nil // a file of this layer hides the name as it is
}

// link makes a hard link to an object of this layer, or a copy of one of the
// layers below: their trees are shared, and must not change with this one.
func (x *extractor) link(at place, target string) error {
	p, err := cleanPath(target)
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", clip(target), err)
	}
	if p == "" {
		return errors.New("a hard link to the root directory")
	}
	// Looking for the target opens directories, which may push this one out
	// of the cache.
	dirfd, err := unix.FcntlInt(uintptr(at.dirfd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open directory again: %w", err)
	}
	at.dirfd = dirfd
	defer sys.Close(dirfd)

	targetDir, name := splitPath(p)
	fd, dir, err := x.walk(targetDir, false)
	if err == unix.ENOENT {
		return x.linkLower(at, p)
	}
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", clip(target), err)
	}
	var st unix.Statx_t
	err = sys.Stat(fd, name, &st)
	switch {
	case err == unix.ENOENT:
		return x.linkLower(at, joinPath(dir, name))
	case err != nil:
		return fmt.Errorf("hard link to %q: %w", clip(target), err)
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return fmt.Errorf("hard link to %q, which is a directory", clip(target))
	case whiteout.IsDevice(&st):
		return fmt.Errorf("hard link to %q, which this layer deletes", clip(target))
	}
	if dir == at.dir && name == at.name {
		return nil // a link to itself is there already
	}
	if _, err := x.fileWhiteout(at); err != nil {
		return err
	}
	err = unix.Linkat(fd, name, at.dirfd, at.name, 0)
	if err == unix.EEXIST {
		if _, _, err := x.clear(at, false); err != nil {
			return err
		}
		err = unix.Linkat(fd, name, at.dirfd, at.name, 0)
	}
	switch err {
	case nil:
		return notePlaceholder(at, &st)
	case unix.EMLINK, unix.EPERM:
		return x.copyObject(at, fd, name)
	case unix.ENOENT:
		return fmt.Errorf("hard link to %q, which it replaces", clip(target))
	}
	return fmt.Errorf("hard link to %q: %w", clip(target), err)
}

// notePlaceholder marks the directory of a new link if what it leads to, with the status st on disk, is a placeholder.
func notePlaceholder(at place, st *unix.Statx_t) error {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	m, err := ondisk.ReadMeta(at.dirfd, at.name, st)
	if err != nil {
		return fmt.Errorf("read link target: %w", err)
	}
	if m.Type() == unix.S_IFREG {
		return nil
	}
	if err := ondisk.MarkPlaceholders(at.dirfd); err != nil {
		return fmt.Errorf("mark directory: %w", err)
	}
	return nil
}

// linkLower copies the target of a hard link from the layers below.
func (x *extractor) linkLower(at place, p string) error {
	for _, lower := range x.lowers {
		found, hidden, err := x.copyLower(at, lower, p)
		if err != nil {
			return fmt.Errorf("hard link to %q in a layer below: %w", clip(p), err)
		}
		if found {
			x.result.Chained = true
			return nil
		}
		if hidden {
			break
		}
	}
	return fmt.Errorf("hard link to %q, which does not exist", clip(p))
}

// copyLower copies the object p of one lower layer. hidden says that the
// layer hides p in the layers below itself.
func (x *extractor) copyLower(at place, lower, p string) (found, hidden bool, err error) {
	l, err := lookLower(lower, p)
	if err != nil || !l.found {
		return false, l.hidden, err
	}
	defer sys.Close(l.dirfd)
	if l.isDir {
		return false, true, errors.New("it is a directory")
	}
	if _, err := x.fileWhiteout(at); err != nil {
		return false, false, err
	}
	return true, false, x.copyObject(at, l.dirfd, l.name)
}

// copyObject makes a copy of a stored object that is no directory.
func (x *extractor) copyObject(at place, srcDir int, srcName string) error {
	o, st, err := ondisk.Read(srcDir, srcName)
	if err != nil {
		return fmt.Errorf("read link target: %w", err)
	}
	if err := x.make(at, o); err != nil {
		return err
	}
	if o.Type() == unix.S_IFREG && st.Size > 0 {
		if err := copyContent(at.dirfd, at.name, srcDir, srcName, int64(st.Size)); err != nil {
			return fmt.Errorf("copy link target: %w", err)
		}
	}
	return ondisk.SetTimes(at.dirfd, at.name, statTime(st.Atime), statTime(st.Mtime))
}

func copyContent(dstDir int, dstName string, srcDir int, srcName string, size int64) error {
	src, err := sys.Open(srcDir, srcName, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer sys.Close(src)
	dst, err := sys.Open(dstDir, dstName, unix.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer sys.Close(dst)
	if sys.Reflink(dst, src) == nil {
		return nil
	}
	return sys.CopyData(dst, src, size)
}

func statTime(t unix.StatxTimestamp) unix.Timespec {
	return unix.Timespec{Sec: t.Sec, Nsec: int64(t.Nsec)}
}
