package cow

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRenameReadsNoListing: renaming a lower directory takes as long for a
// million entries as for one, also what stat asks for afterwards.
func TestRenameReadsNoListing(t *testing.T) {
	cfg := layers(t, tree{"full/a": "a", "full/sub/": "", "full/other/x": "x"})
	u := open(t, cfg)
	from := "full"
	for i := range 4 {
		to := fmt.Sprint("name", i)
		must(t, u.rename(from, to, 0))
		n, err := u.walk(to)
		must(t, err)
		var a Attr
		must(t, u.Getattr(n, &a))
		if a.Nlink != 4 {
			t.Errorf("%s has %d links, want 4", to, a.Nlink)
		}
		if n.dir.loaded {
			t.Errorf("the listing of %s was read", to)
		}
		u.Forget(n, 1)
		if from = to; i%2 == 1 {
			u.reopen()
		}
	}
	must(t, u.unlink(from+"/a"))
	must(t, u.mkdir(from+"/new"))
	if a := u.attr(from); a.Nlink != 5 {
		t.Errorf("%s has %d links after a directory was made in it, want 5", from, a.Nlink)
	}
}

// TestCountedLinks: the link count of a directory is the same before and after
// its listing is read, whatever its layers say of each other.
func TestCountedLinks(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 7))
		some := func() tree {
			tr := tree{"top/": ""}
			for i := range 5 {
				switch rng.IntN(6) {
				case 0:
					tr[fmt.Sprintf("top/%d/", i)] = ""
				case 1:
					tr[fmt.Sprintf("top/%d", i)] = "file"
				case 2:
					tr[fmt.Sprintf("top/.wh.%d", i)] = ""
				}
			}
			if rng.IntN(8) == 0 {
				tr["top/.wh..wh..opq"] = ""
			}
			return tr
		}
		trees := []tree{some()}
		if rng.IntN(3) == 0 {
			trees = append(trees, some())
		}
		cfg := layers(t, trees...)
		if rng.IntN(3) > 0 {
			some().write(t, cfg.Upper)
		}
		u := open(t, cfg)
		for step := range 6 {
			switch n := u.attr("top").Nlink; {
			case rng.IntN(3) == 0:
				err := u.mkdir(fmt.Sprint("top/", rng.IntN(7)))
				if err != nil && err != unix.EEXIST {
					t.Fatal(err)
				}
			default:
				must(t, u.rename("top", "other", 0))
				must(t, u.rename("other", "top", 0))
				if now := u.attr("top").Nlink; now != n {
					t.Fatalf("seed %d, step %d: %d links became %d with a rename", seed, step, n, now)
				}
			}
			before := u.attr("top").Nlink
			subdirs := uint32(2)
			for _, e := range entries(u, "top") {
				if u.attr("top/"+e).Mode&unix.S_IFMT == unix.S_IFDIR {
					subdirs++
				}
			}
			if after := u.attr("top").Nlink; before != subdirs || after != subdirs {
				t.Fatalf("seed %d, step %d: %d links before and %d after reading, want %d", seed, step, before, after, subdirs)
			}
			if rng.IntN(2) == 0 {
				u.reopen()
			}
		}
	}
}

// entries are the names in a directory.
func entries(u *union, path string) (names []string) {
	u.t.Helper()
	must(u.t, u.with(path, func(n *Node) (err error) {
		names, err = u.names(n)
		return err
	}))
	return names
}
