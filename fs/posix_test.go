package fs_test

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"

	"mica/cow"
)

// notPosix are tests of the table that a plain directory fails too.
var notPosix = map[string]string{
	"FcntlFlockLocksFile": "wants a process to be refused a lock on a file by its own lock, which POSIX has it replace",
}

// TestPosix runs go-fuse's whole table of POSIX tests: in a directory that
// comes from a lower layer, whose name is its all, in a new one, and with each
// way of copying up.
func TestPosix(t *testing.T) {
	modes := map[string]cow.Config{
		"blocks": {CopyUp: cow.CopyUpBlocks},
		"full":   {CopyUp: cow.CopyUpFull, NoRedirect: true},
	}
	for _, name := range slices.Sorted(maps.Keys(posixtest.All)) {
		if _, ok := notPosix[name]; ok {
			continue
		}
		for mode, cfg := range modes {
			for _, dir := range []string{"lower", "new"} {
				t.Run(name+"/"+mode+"/"+dir, func(t *testing.T) {
					layers := lowers(t, 2)
					must(t, os.MkdirAll(layers[1]+"/lower", 0o755))
					cfg.Lowers = real(layers...)
					m := mountUnion(t, cfg)
					must(t, os.MkdirAll(m.dir+"/new", 0o755))
					posixtest.All[name](t, m.dir+"/"+dir)
				})
			}
		}
	}
}
