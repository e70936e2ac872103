package atomicfile

import (
	"os"
	"path/filepath"
	"testing"

	"mica/internal/testenv"
)

// TestMain runs the tests as a plain user.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// TestReplace: what is written is there, without leftovers, also over a longer one; what fails leaves the old one.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, replace := range []func(string, []byte) error{Replace, ReplaceDurably} {
		for _, content := range []string{"a longer one", "short"} {
			if err := replace(path, []byte(content)); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != content {
				t.Errorf("%q, %v; want %q", got, err, content)
			}
		}
		other := filepath.Join(dir, "directory")
		if err := os.MkdirAll(filepath.Join(other, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := replace(other, nil); err == nil {
			t.Error("a directory was replaced")
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*"+Suffix)); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}
