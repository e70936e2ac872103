package cow

import (
	"fmt"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// namesSeen lists the directory d name by name, and calls each after each; it
// stops at 1000.
func namesSeen(t *testing.T, u *union, each func(name string)) (got []string) {
	t.Helper()
	must(t, u.with("d", func(n *Node) error {
		for cookie := uint64(0); len(got) < 1000; {
			var next *DirEntry
			err := u.ReadDir(n, cookie, func(e DirEntry) bool {
				if next == nil {
					next = &e
				}
				return false
			})
			if err != nil || next == nil {
				return err
			}
			if cookie = next.Cookie; next.Name != "." && next.Name != ".." {
				got = append(got, next.Name)
			}
			each(next.Name)
		}
		return nil
	}))
	slices.Sort(got)
	return got
}

// TestListingChanging lists directories that change meanwhile: what was there
// all the time comes, and once, and the listing has an end.
func TestListingChanging(t *testing.T) {
	var files []string
	for i := range 200 {
		files = append(files, fmt.Sprint("f", i))
	}
	slices.Sort(files)
	begin := func(files []string) *union {
		u := open(t, layers(t, tree{"d/": ""}))
		for _, name := range files {
			must(t, u.put("d/"+name, "x", 0))
		}
		return u
	}
	replace := func(u *union, name string) {
		must(t, u.put("tmp", "new", 0))
		must(t, u.rename("tmp", "d/"+name, 0))
	}
	check := func(what string, got, want []string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: listed %d names, want %d: %.300q", what, len(got), len(want), got)
		}
	}

	u := begin(files)
	check("renamed as it is seen", namesSeen(t, u, func(name string) {
		if name[0] == 'f' {
			must(t, u.rename("d/"+name, "d/seen-"+name, 0))
		}
	}), files)

	u = begin(files)
	check("replaced as it is seen", namesSeen(t, u, func(name string) {
		if name[0] == 'f' {
			replace(u, name)
		}
	}), files)

	u = begin(files)
	check("all replaced at once", namesSeen(t, u, func(name string) {
		if name == ".." {
			for range 3 {
				for _, f := range files {
					replace(u, f)
				}
			}
		}
	}), files)

	u = begin(files)
	check("exchanged", namesSeen(t, u, func(name string) {
		for i := range 20 {
			must(t, u.rename("d/"+files[i], "d/"+files[len(files)-1-i], unix.RENAME_EXCHANGE))
		}
	}), files)

	u = begin(nil)
	i := 0
	check("filled from empty", namesSeen(t, u, func(string) { i++; must(t, u.put(fmt.Sprint("d/f", i), "", 0)) }), nil)
}
