package cow

import (
	"golang.org/x/sys/unix"

	"mica/internal/sys"
	"mica/whiteout"
)

// putOver moves a staged object over the whiteout of name in an upper
// directory, in one step where the style of the whiteout allows it.
func (f *FS) putOver(stage string, up *dirRef, name string, style whiteout.Style, isDir bool) error {
	fd, err := f.use(up)
	if err != nil {
		return err
	}
	defer f.done(up, fd)
	if style == whiteout.File {
		// The object hides the lower name by itself; only then may the
		// whiteout go.
		if err := sys.Rename(f.work.staging, stage, fd, name, unix.RENAME_NOREPLACE); err != nil {
			return err
		}
		_ = style.Remove(fd, name) // beside its name it says nothing
		return nil
	}
	if !isDir {
		return sys.Rename(f.work.staging, stage, fd, name, 0)
	}
	if err := sys.Rename(f.work.staging, stage, fd, name, unix.RENAME_EXCHANGE); err != nil {
		return err
	}
	f.work.discard(stage)
	return nil
}

// whiteoutFree writes a whiteout for a name that the upper has not.
func (f *FS) whiteoutFree(up *dirRef, name string) error {
	fd, err := f.use(up)
	if err != nil {
		return err
	}
	defer f.done(up, fd)
	return f.createWhiteout(fd, name)
}

// createWhiteout writes a whiteout for a name that the directory fd has not.
// As long as the disk allows it, those that are devices are links of one in the
// work directory, and take no inode each. What the kernel leaves behind a rename
// is a device of its own. Needs FS.tree exclusively.
func (f *FS) createWhiteout(fd int, name string) error {
	w := f.work
	if f.style != whiteout.Device || w.alone {
		return f.style.Create(fd, name)
	}
	err := unix.Linkat(w.fd, whiteoutName, fd, name, 0)
	switch err {
	case nil, unix.EEXIST, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO:
		return err
	case unix.ENOENT: // the first one
	case unix.EMLINK: // all others are links of the next one
		_ = unix.Unlinkat(w.fd, whiteoutName, 0)
	default:
		w.alone = true
		return f.style.Create(fd, name)
	}
	if err := f.style.Create(fd, name); err != nil {
		return err
	}
	if unix.Linkat(fd, name, w.fd, whiteoutName, 0) != nil {
		w.alone = true
	}
	return nil
}

// removeUpper removes an upper object, empty if it is a directory but for
// marks, and leaves a whiteout in its place if asked, so that at no moment the
// lower object shows.
func (f *FS) removeUpper(up *dirRef, name string, isDir, leaveWhiteout bool) error {
	fd, err := f.use(up)
	if err != nil {
		return err
	}
	defer f.done(up, fd)
	flags := 0
	if isDir {
		flags = unix.AT_REMOVEDIR
	}
	if !leaveWhiteout {
		err := unix.Unlinkat(fd, name, flags)
		if !isDir || err != unix.ENOTEMPTY && err != unix.EEXIST {
			return err
		}
		// Only whiteouts are left in it.
		stage := f.work.stageName()
		if err := sys.Rename(fd, name, f.work.staging, stage, unix.RENAME_NOREPLACE); err != nil {
			return err
		}
		f.work.discard(stage)
		return nil
	}
	if f.style == whiteout.File {
		if err := f.createWhiteout(fd, name); err != nil {
			return err
		}
		return f.removeUpper(up, name, isDir, false)
	}
	stage := f.work.stageName()
	if err := f.createWhiteout(f.work.staging, stage); err != nil {
		return err
	}
	renameFlags := uint(0)
	if isDir {
		renameFlags = unix.RENAME_EXCHANGE
	}
	if err := sys.Rename(f.work.staging, stage, fd, name, renameFlags); err != nil {
		f.work.discard(stage)
		return err
	}
	if isDir {
		f.work.discard(stage)
	}
	return nil
}
