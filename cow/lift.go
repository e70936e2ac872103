package cow

import (
	"errors"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// lift does what the mode of an object on disk may forbid the server, which is
// its owner where owners are real: to read and write attributes of users, to
// open a file, or to put something into a directory, each of which a client that
// has opened the object, or is no more than its owner, needs done. If that is
// refused, the owner has the permission for the time of do.
func (f *FS) lift(dirfd int, name string, do func() error) error {
	err := do()
	if !errors.Is(err, unix.EACCES) || !f.mayLift() {
		return err
	}
	f.beginLift()
	defer f.endLift()
	mode, raised := raise(dirfd, name)
	if !raised {
		return err
	}
	err = do()
	if back := ondisk.Chmod(dirfd, name, mode); err == nil {
		err = back
	}
	return err
}

// renameStaged moves a staged object to its name in the directory fd. It lifts
// both: a directory that gets another parent is itself written to.
func (f *FS) renameStaged(stage string, fd int, name string) error {
	err := sys.Rename(f.work.staging, stage, fd, name, unix.RENAME_NOREPLACE)
	if err != unix.EACCES || !f.mayLift() {
		return err
	}
	f.beginLift()
	defer f.endLift()
	if mode, raised := raise(fd, ""); raised {
		defer ondisk.Chmod(fd, "", mode)
	}
	mode, raised := raise(f.work.staging, stage)
	err = sys.Rename(f.work.staging, stage, fd, name, unix.RENAME_NOREPLACE)
	if err == nil && raised {
		err = ondisk.Chmod(fd, name, mode)
	}
	return err
}

func (f *FS) mayLift() bool {
	return f.upper != nil && f.upper.owners == OwnersReal && !f.ReadOnly() && !f.cfg.Observe
}

func (f *FS) beginLift() {
	f.lifting.Lock()
	f.lifts.Add(1)
}

func (f *FS) endLift() {
	f.lifts.Add(1)
	f.lifting.Unlock()
}

// raise gives the owner of an object all permissions, and what its mode was; it
// is false where it had them, or cannot get them.
func raise(dirfd int, name string) (mode uint32, raised bool) {
	var st unix.Statx_t
	if sys.Stat(dirfd, name, &st) != nil {
		return 0, false
	}
	need := uint32(0o600)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		return 0, false
	case unix.S_IFDIR:
		need = 0o700
	}
	mode = uint32(st.Mode) & 0o7777
	return mode, mode&need != need && ondisk.Chmod(dirfd, name, mode|need) == nil
}

// statUpper is sys.Stat of an object of the upper that sees no mode of lift.
func (f *FS) statUpper(dirfd int, name string, st *unix.Statx_t) error {
	before := f.lifts.Load()
	if err := sys.Stat(dirfd, name, st); err != nil || before%2 == 0 && f.lifts.Load() == before {
		return err
	}
	f.lifting.Lock()
	defer f.lifting.Unlock()
	return sys.Stat(dirfd, name, st)
}

// liftedXattr is sys.GetxattrAll of a record on an object of the upper.
func (f *FS) liftedXattr(dirfd int, name, attr string) (raw []byte, err error) {
	err = f.lift(dirfd, name, func() error {
		raw, err = sys.GetxattrAll(dirfd, name, attr)
		return err
	})
	return raw, err
}

// setRecord stores a record on an object of the upper.
func (f *FS) setRecord(dirfd int, name, attr, value string) error {
	return f.lift(dirfd, name, func() error { return sys.Setxattr(dirfd, name, attr, []byte(value), 0) })
}
