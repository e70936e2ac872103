package fs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"mica/cow"
	"mica/internal/testenv"
)

// mapVariable names a file that this process is to write to through mapped
// pages before it ends.
const mapVariable = "MICA_TEST_MAP"

// mappedPages are so many that the server needs a while for them. Every second page of the file is one, so that each takes
// a request.
const mappedPages = 1 << 13

// writeMapped does that.
func writeMapped(path string) error {
	return testenv.WriteMapped(path, mappedPages, 2, func() error { return nil })
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
