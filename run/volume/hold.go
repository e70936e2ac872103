package volume

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Helper runs [Settle] ("settle") or [Restore] ("restore") on the directory of a volume, as root of a user namespace with
// the ids of containers.
type Helper func(op, dir string) error

// Hold is a volume in use: its directories belong to those whose they are in containers.
type Hold struct {
	dir  string
	lock *os.File // shared; exclusive while owners change
}

// Hold begins a use of the volume, at the side of other ones. It waits for those who change its owners.
func (v *Volume) Hold(help Helper) (*Hold, error) {
	h, err := v.open()
	if err != nil {
		return nil, err
	}
	for {
		if err = h.flock(unix.LOCK_SH); err != nil || !h.settled() {
			break
		}
		if err = h.flock(unix.LOCK_EX); err != nil {
			break
		}
		if h.settled() { // not yet restored by somebody else
			if err = help("restore", h.dir); err != nil {
				break
			}
		}
	}
	if err != nil {
		h.lock.Close()
		return nil, fmt.Errorf("use volume %s: %w", v.Name, err)
	}
	return h, nil
}

// Settle gives the directories of the volume to the user if nobody uses it: users that were killed have not done so.
func (v *Volume) Settle(help Helper) error {
	h, err := v.open()
	if err != nil {
		return err
	}
	return h.Release(help)
}

// Unsettled tells whether that is due.
func (v *Volume) Unsettled() (bool, error) {
	h, err := v.open()
	if err != nil {
		return false, err
	}
	defer h.lock.Close()
	if err := h.flock(unix.LOCK_EX | unix.LOCK_NB); err != nil {
		return false, nil // it is used
	}
	return foreign(h.dir)
}

func (v *Volume) open() (*Hold, error) {
	h := &Hold{dir: filepath.Dir(v.Data)}
	var err error
	if h.lock, err = os.OpenFile(filepath.Join(h.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("use volume %s: %w", v.Name, err)
	}
	return h, nil
}

// Release ends the use. The last one gives the directories to the user.
func (h *Hold) Release(help Helper) error {
	defer h.lock.Close()
	err := h.flock(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil // whoever else uses it will do it
	}
	if err != nil {
		return err
	}
	needed, err := foreign(h.dir)
	if err != nil || !needed {
		return err
	}
	if h.settled() { // by somebody who was killed half-way
		if err := help("restore", h.dir); err != nil {
			return err
		}
	}
	return help("settle", h.dir)
}

func (h *Hold) settled() bool {
	_, err := os.Lstat(filepath.Join(h.dir, ownersFile))
	return err == nil
}

func (h *Hold) flock(how int) error {
	for {
		if err := unix.Flock(int(h.lock.Fd()), how); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
