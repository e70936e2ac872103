package sys

import (
	"errors"
	"os"
	"testing"
)

func TestCheckFuseDevice(t *testing.T) {
	for path, want := range map[string]error{"/dev/fuse": nil, "/dev/null": ErrNoFuseDevice, "/proc/self/exe": ErrNoFuseDevice} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := CheckFuseDevice(int(f.Fd())); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}
