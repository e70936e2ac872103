package sys

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestRemoveAll removes directories that shut their owner out, and leaves what symlinks in them lead to.
func TestRemoveAll(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	must(t, os.Mkdir(outside, 0o500))
	top := filepath.Join(t.TempDir(), "top")
	for _, mode := range []os.FileMode{0o555, 0o111, 0o000} {
		deep := filepath.Join(top, "a", "b")
		must(t, os.MkdirAll(deep, 0o700))
		must(t, os.WriteFile(filepath.Join(deep, "file"), nil, 0o400))
		must(t, os.Symlink(outside, filepath.Join(deep, "link")))
		for _, dir := range []string{deep, filepath.Dir(deep), top} {
			must(t, os.Chmod(dir, mode))
		}
		must(t, RemoveAll(top))
		if _, err := os.Lstat(top); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("mode %o: it is left: %v", mode, err)
		}
	}
	must(t, RemoveAll(top))
	fi, err := os.Stat(outside)
	must(t, err)
	if fi.Mode().Perm() != 0o500 {
		t.Errorf("what a link leads to has mode %o", fi.Mode().Perm())
	}
}
