package fs_test

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"mica/cow"
)

// firstListings is how many listings of a new client have all attributes.
const firstListings = 2

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

// TestListingsRenewAttributes reads the files of a directory, which makes the
// times of access that the kernel knows out of date, and then lists it and looks
// at all of them, as git does. A listing that has no attributes of new files
// still has those.
func TestListingsRenewAttributes(t *testing.T) {
	const files = 100
	base := tempDir(t)
	m := &mount{t: t, dir: filepath.Join(base, "merged"), stats: filepath.Join(base, "stats"),
		cfg: cow.Config{Lowers: real(lowers(t, 1)...), Upper: filepath.Join(base, "upper"), Work: filepath.Join(base, "work")}}
	for _, dir := range []string{m.dir, m.cfg.Upper, m.cfg.Work} {
		must(t, os.Mkdir(dir, 0o755))
	}
	dir := filepath.Join(m.cfg.Lowers[0].Dir, "dir")
	must(t, os.Mkdir(dir, 0o755))
	for i := range files {
		must(t, os.WriteFile(filepath.Join(dir, fmt.Sprint("file", i)), []byte("content"), 0o600))
	}
	m.start()
	t.Cleanup(m.close)
	dir = filepath.Join(m.dir, "dir")
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		each := func(f func(path string) error) (err error) {
			for i := range files {
				err = errors.Join(err, f(filepath.Join(dir, fmt.Sprint("file", i))))
			}
			return err
		}
		look := func(path string) error { _, err := os.Lstat(path); return err }
		list := func(round int) error {
			// A new name makes the kernel ask for the listing again.
			err := os.Mkdir(filepath.Join(dir, fmt.Sprint("new", round)), 0o755)
			_, err2 := os.ReadDir(dir)
			return errors.Join(err, err2)
		}
		err := each(look)
		for round := range firstListings {
			err = errors.Join(err, list(round))
		}
		err = errors.Join(err, each(func(path string) error { _, err := os.ReadFile(path); return err }))
		done <- errors.Join(err, list(firstListings), each(look))
	}()
	must(t, <-done)
	if n := m.ended().Requests["GETATTR"]; n > files/2 {
		t.Errorf("%d requests for attributes of %d files that listings could have had", n, files)
	}
}
