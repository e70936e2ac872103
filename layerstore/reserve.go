package layerstore

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserveFile is space that a store keeps for the day when its disk is full: images can be removed then only with some of it,
// since even that makes a directory and writes the index anew.
const (
	reserveFile = "reserve"
	reserveSize = 64 << 10 // bytes
)

// keepReserve makes the reserve if it has been spent. Where there is no space for it yet, a later Open tries again.
func (s *Store) keepReserve() {
	path := s.path(reserveFile)
	if exists(path) {
		return
	}
	if os.WriteFile(path, make([]byte, reserveSize), 0o600) != nil {
		_ = os.Remove(path)
	}
}

// withReserve does what must be possible on a full disk too.
func (s *Store) withReserve(do func() error) error {
	err := do()
	if (errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) && os.Remove(s.path(reserveFile)) == nil {
		err = do()
	}
	return err
}
