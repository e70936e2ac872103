package fs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mica/cow"
)

// mapVariable names a file that this process is to write to through mapped
// pages before it ends.
const mapVariable = "MICA_TEST_MAP"

// mappedPages are so many that the server needs a while for them. Every second page of the file is one, so that each takes
// a request.
const mappedPages = 1 << 13

// writeMapped does that. It leaves to the kernel when the pages are written.
func writeMapped(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	size := 2 * mappedPages * os.Getpagesize()
	if err := f.Truncate(int64(size)); err != nil {
		return err
	}
	pages, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	for at := 0; at < size; at += 2 * os.Getpagesize() {
		pages[at] = '\n'
	}
	return nil
}

// What a process has put into mapped pages is in the upper directory when the
// process has ended and the mount is gone.
func TestMappedPagesBeforeUnmount(t *testing.T) {
	m := mountUnion(t, cow.Config{Lowers: real(lowers(t, 1)...)})
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), mapVariable+"="+filepath.Join(m.dir, "mapped"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m.stop()
	content, err := os.ReadFile(filepath.Join(m.upper(), "mapped"))
	if got := bytes.Count(content, []byte("\n")); err != nil || got != mappedPages {
		t.Errorf("the upper directory has %d of %d pages, %v", got, mappedPages, err)
	}
}
