package layerstore

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/whiteout"
)

// make creates o at its place, over whatever an earlier entry put there: the
// last entry of a name wins. Two directories become one with the later metadata.
func (x *extractor) make(at place, o ondisk.Object) error {
	hides, err := x.fileWhiteout(at)
	if err != nil {
		return err
	}
	err = ondisk.Create(at.dirfd, at.name, o)
	if errors.Is(err, unix.EEXIST) {
		var merge, hid bool
		if merge, hid, err = x.clear(at, o.Type() == unix.S_IFDIR); err != nil {
			return err
		}
		if merge {
			return x.replaceMeta(at, o)
		}
		hides = hides || hid
		err = ondisk.Create(at.dirfd, at.name, o)
	}
	if err != nil {
		return fmt.Errorf("make it: %w", err)
	}
	// A directory in the place of a whiteout, or of a file that hid what lies
	// below, must go on hiding it.
	if hides && o.Type() == unix.S_IFDIR {
		return x.setOpaque(at.dirfd, at.name, at.path())
	}
	return nil
}

// fileWhiteout takes away the whiteout of a name where whiteouts are files
// beside it; a device whiteout has the name itself and is found as EEXIST.
func (x *extractor) fileWhiteout(at place) (was bool, err error) {
	if x.style != whiteout.File {
		return false, nil
	}
	err = unix.Unlinkat(at.dirfd, whiteout.DeleteName(at.name), 0)
	switch err {
	case nil:
		return true, nil
	case unix.ENOENT, unix.ENAMETOOLONG:
		return false, nil
	}
	return false, fmt.Errorf("remove whiteout: %w", err)
}

// clear makes room for an object: merge says that there is a directory to
// reuse, hid that what was removed hid the layers below.
func (x *extractor) clear(at place, wantDir bool) (merge, hid bool, err error) {
	var st unix.Statx_t
	if err := sys.Stat(at.dirfd, at.name, &st); err != nil {
		return false, false, fmt.Errorf("replace it: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		if err := unix.Unlinkat(at.dirfd, at.name, 0); err != nil {
			return false, false, fmt.Errorf("replace it: %w", err)
		}
		return false, true, nil
	}
	if wantDir {
		return true, false, nil
	}
	x.dirs.drop(at.path())
	if err := removeTree(at.dirfd, at.name); err != nil {
		return false, false, fmt.Errorf("replace directory: %w", err)
	}
	return false, true, nil
}

// removeTree removes a directory and all in it, without following anything.
func removeTree(dirfd int, name string) error {
	fd, err := sys.OpenDir(dirfd, name)
	if err != nil {
		return err
	}
	defer sys.Close(fd)
	type entry struct {
		name string
		dir  bool
	}
	var entries []entry
	err = sys.List(fd, func(name []byte, typ uint8, _ uint64) error {
		entries = append(entries, entry{string(name), typ == unix.DT_DIR})
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range entries {
		err := error(unix.EISDIR)
		if !e.dir {
			err = unix.Unlinkat(fd, e.name, 0)
		}
		if err == unix.EISDIR {
			err = removeTree(fd, e.name)
		}
		if err != nil {
			return err
		}
	}
	return unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
}

// replaceMeta gives an existing directory the metadata of o and no other.
func (x *extractor) replaceMeta(at place, o ondisk.Object) error {
	old, err := ondisk.ReadXattrs(at.dirfd, at.name)
	if err != nil {
		return fmt.Errorf("read attributes: %w", err)
	}
	for attr := range old {
		if _, kept := o.Xattrs[attr]; kept {
			continue
		}
		if err := sys.Removexattr(at.dirfd, at.name, ondisk.StoredXattr(attr)); err != nil {
			return fmt.Errorf("remove attribute %s: %w", attr, err)
		}
	}
	for attr, value := range o.Xattrs {
		if err := ondisk.SetXattr(at.dirfd, at.name, attr, value); err != nil {
			return fmt.Errorf("set attribute %s: %w", attr, err)
		}
	}
	if err := ondisk.SetMeta(at.dirfd, at.name, o.Meta); err != nil {
		return fmt.Errorf("set metadata: %w", err)
	}
	return nil
}

// content fills the empty file at its place. Blocks of zeros become holes,
// since an archive does not say which zeros were holes.
func (x *extractor) content(at place, r io.Reader, size int64) error {
	if size == 0 {
		return nil
	}
	fd, err := sys.Open(at.dirfd, at.name, unix.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write it: %w", err)
	}
	defer sys.Close(fd)
	var off int64
	for off < size {
		// The stream itself is not read for the holes of a sparse entry.
		if err := x.ctx.Err(); err != nil {
			return err
		}
		n := min(int64(len(x.buf)), size-off)
		if _, err := io.ReadFull(r, x.buf[:n]); err != nil {
			return x.contentError(err)
		}
		if err := sys.WriteSparse(fd, x.buf[:n], off); err != nil {
			return fmt.Errorf("write it: %w", err)
		}
		off += n
	}
	// The end of the file may be a hole.
	if err := unix.Ftruncate(fd, size); err != nil {
		return fmt.Errorf("write it: %w", err)
	}
	return nil
}

func (x *extractor) contentError(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return readError(err)
	}
	return err
}
