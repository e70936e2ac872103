package layerstore

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReserve: what frees space is tried again with the reserve, once, and the next Open makes that anew.
func TestReserve(t *testing.T) {
	s := newStore(t)
	if fi, err := os.Stat(s.path(reserveFile)); err != nil || fi.Size() != reserveSize {
		t.Fatalf("the reserve: %v, %v", fi, err)
	}
	full := fmt.Errorf("make: %w", unix.ENOSPC)
	tries := 0
	if err := s.withReserve(func() error { tries++; return full }); !errors.Is(err, unix.ENOSPC) || tries != 2 {
		t.Errorf("on a disk that stays full: %v after %d tries", err, tries)
	}
	tries = 0
	if err := s.withReserve(func() error { tries++; return full }); !errors.Is(err, unix.ENOSPC) || tries != 1 {
		t.Errorf("without a reserve: %v after %d tries", err, tries)
	}
	requireClean(t, s)
	again, err := Open(s.Root())
	if err != nil {
		t.Fatal(err)
	}
	tries = 0
	err = again.withReserve(func() error {
		if tries++; exists(s.path(reserveFile)) {
			return full
		}
		return nil
	})
	if err != nil || tries != 2 {
		t.Errorf("with the space of the reserve: %v after %d tries", err, tries)
	}
	if err := again.withReserve(func() error { return unix.EIO }); err != unix.EIO || exists(s.path(reserveFile)) {
		t.Errorf("another error: %v", err)
	}
}
