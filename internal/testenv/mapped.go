package testenv

import (
	"os"

	"golang.org/x/sys/unix"
)

// WriteMapped puts a line into the first, and then each stride-th, page of a new file that it has mapped, and leaves to the
// kernel when they are written; lines says how many. mapped is called once the file is mapped and closed, before anything is in it.
func WriteMapped(path string, lines, stride int, mapped func() error) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	step := stride * os.Getpagesize()
	if err := f.Truncate(int64(lines * step)); err != nil {
		return err
	}
	pages, err := unix.Mmap(int(f.Fd()), 0, lines*step, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := mapped(); err != nil {
		return err
	}
	for at := 0; at < len(pages); at += step {
		copy(pages[at:], "written through a mapped page\n")
	}
	return nil
}
