package fs_test

import (
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"mica/cow"
)

// TestListingsHaveWhatIsWanted walks trees of 40 directories with 20 files each
// and one with 2,000. A walk that looks at every file need not look most of them
// up one by one, and one that looks at directories alone does not make the
// server look at the files.
func TestListingsHaveWhatIsWanted(t *testing.T) {
	const directories, files, many = 40, 20, 2000
	lower := lowers(t, 1)[0]
	for d := range directories {
		dir := filepath.Join(lower, fmt.Sprint("dir", d))
		must(t, os.Mkdir(dir, 0o755))
		n := files
		if d == directories/2 {
			n = many
		}
		for i := range n {
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), nil, 0o600))
		}
	}
	total := (directories-1)*files + many
	walk := func(m *mount, look bool) (seen int) {
		// One thread, as a walker has; it is not used again.
		done := make(chan error)
		go func() {
			runtime.LockOSThread()
			done <- filepath.WalkDir(m.dir, func(_ string, e iofs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				seen++
				if look {
					_, err = e.Info()
				}
				return err
			})
		}()
		must(t, <-done)
		return seen
	}
	for _, look := range []bool{false, true} {
		t.Run(fmt.Sprint("look=", look), func(t *testing.T) {
			base := tempDir(t)
			m := &mount{t: t, dir: filepath.Join(base, "merged"), stats: filepath.Join(base, "stats"),
				cfg: cow.Config{Lowers: real(lower)}}
			must(t, os.Mkdir(m.dir, 0o755))
			m.start()
			t.Cleanup(m.close)
			if seen := walk(m, look); seen != total {
				t.Errorf("the walk saw %d files of %d", seen, total)
			}
			did := m.ended()
			if !look && did.Nodes > directories+3*files {
				t.Errorf("the server knows %d objects after a walk that looked at %d directories", did.Nodes, directories)
			}
			if n := did.Requests["LOOKUP"]; n > 5*files {
				t.Errorf("%d lookups of %d files", n, total)
			}
		})
	}
}
