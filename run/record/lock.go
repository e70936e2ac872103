package record

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("in use by another process")

// Lock is the held lock of one container. Its file may be handed to a child process, which
// then holds the lock as well; it is free when the last copy is closed.
type Lock struct{ file *os.File }

// File is the open file that carries the lock.
func (l *Lock) File() *os.File { return l.file }

// Release gives this process's copy up.
func (l *Lock) Release() { l.file.Close() }

// InheritLock takes over the lock that a parent process passed as a file.
func InheritLock(file *os.File) *Lock { return &Lock{file} }

func acquire(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound // removed meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("open the container's lock: %w", err)
	}
	flock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &flock); err != nil {
		f.Close()
		if err == unix.EAGAIN || err == unix.EACCES {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock the container: %w", err)
	}
	return &Lock{f}, nil
}

// held tells whether some process holds the lock, without taking it.
func held(path string) (bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, ErrNotFound // removed meanwhile
	}
	if err != nil {
		return false, fmt.Errorf("open the container's lock: %w", err)
	}
	defer f.Close()
	flock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &flock); err != nil {
		return false, fmt.Errorf("query the container's lock: %w", err)
	}
	return flock.Type != unix.F_UNLCK, nil
}
