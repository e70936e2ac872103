package cow

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// machine is what the crash rule of partly copied files rests on: the barriers
// that put writes on disk, and what tells one boot from another. Tests put a
// model in its place.
type machine interface {
	bootID() (string, error)
	fsync(fd int) error
	fdatasync(fd int) error
	syncfs(fd int) error
	msync(mem []byte) error
}

// linux is the machine that there is.
type linux struct{}

// bootID gives 32 hexadecimal digits.
func (linux) bootID() (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read this boot's id: %w", err)
	}
	return strings.ReplaceAll(strings.TrimSpace(string(boot)), "-", ""), nil
}

func (linux) fsync(fd int) error {
	return sys.Retry(func() error { return unix.Fsync(fd) })
}

func (linux) fdatasync(fd int) error {
	return sys.Retry(func() error { return unix.Fdatasync(fd) })
}

func (linux) syncfs(fd int) error {
	return sys.Retry(func() error { return unix.Syncfs(fd) })
}

func (linux) msync(mem []byte) error {
	return sys.Retry(func() error { return unix.Msync(mem, unix.MS_SYNC) })
}
