package volume

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mica/internal/atomicfile"
	"mica/internal/sys"
)

// fillingFile is there, and not empty, while a volume is filled, which is done anew if that was cut off. Whoever fills holds its
// lock. For a volume with a name it lasts before the first content comes, and is gone for good before that is used: an empty one
// beside content, also after a power loss, is of somebody who found the volume filled once they had the lock.
const fillingFile = "filling"

// Fill fills the volume if it is empty, or a fill was cut off: what that has left is written over. It waits for others who
// are at it.
func (v *Volume) Fill(fill func() error) error {
	mark := filepath.Join(filepath.Dir(v.Data), fillingFile)
	for {
		if _, err := os.Lstat(mark); err != nil && !v.isEmpty() {
			return nil
		}
		f, err := os.OpenFile(mark, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		last, err := lockLast(f)
		if err == nil && last {
			err = v.fillUnder(f, fill)
		}
		f.Close()
		if err != nil || last {
			return err
		}
	}
}

// fillUnder is Fill with the mark locked.
func (v *Volume) fillUnder(mark *os.File, fill func() error) error {
	fi, err := mark.Stat()
	if err != nil {
		return err
	}
	if fi.Size() == 0 && !v.isEmpty() {
		return os.Remove(mark.Name()) // somebody has filled it since it was found empty
	}
	if err := v.begun(mark); err != nil {
		return err
	}
	if err := fill(); err != nil {
		return err
	}
	return v.filled(mark.Name())
}

// lockLast waits for the lock of a mark. It tells whether the mark is still in place: else somebody has filled the volume.
func lockLast(f *os.File) (bool, error) {
	if err := sys.Retry(func() error { return unix.Flock(int(f.Fd()), unix.LOCK_EX) }); err != nil {
		return false, err
	}
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return st.Nlink > 0, err
}

// begun notes that the volume is about to be filled.
func (v *Volume) begun(mark *os.File) error {
	if _, err := mark.WriteString("begun"); err != nil || v.Anonymous {
		return err
	}
	if err := mark.Sync(); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(mark.Name()))
}

// filled notes that the volume is filled. The content of one with a name comes to last first.
func (v *Volume) filled(mark string) error {
	if v.Anonymous {
		return os.Remove(mark)
	}
	dir, err := os.Open(filepath.Dir(mark))
	if err != nil {
		return err
	}
	defer dir.Close()
	if !v.isEmpty() {
		if err := unix.Syncfs(int(dir.Fd())); err != nil {
			return err
		}
	}
	if err := os.Remove(mark); err != nil {
		return err
	}
	return dir.Sync() // a mark that came back would have the changes of containers written over
}

// isEmpty tells whether nothing is in the volume. One that cannot be listed has content that somebody else owns.
func (v *Volume) isEmpty() bool {
	dir, err := os.Open(v.Data)
	if err != nil {
		return false
	}
	defer dir.Close()
	_, err = dir.Readdirnames(1)
	return errors.Is(err, io.EOF)
}
