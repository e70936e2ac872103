package layerstore

import (
	"archive/tar"
	"context"
	"testing"

	"golang.org/x/sys/unix"

	"mica/cow"
)

// TestLinkedPlaceholders: what is a placeholder on disk is listed as what it is under all its names, wherever they are.
func TestLinkedPlaceholders(t *testing.T) {
	s := newStore(t)
	img := importTar(t, s, "x", dir("a"), tarEntry{tar.Header{Typeflag: tar.TypeFifo, Name: "a/fifo", Mode: 0o644}, ""},
		tarEntry{tar.Header{Typeflag: tar.TypeChar, Name: "a/device", Mode: 0o644, Devmajor: 1, Devminor: 3}, ""},
		dir("b"), hardlink("b/fifo", "a/fifo"), hardlink("b/device", "a/device"))
	dirs, err := s.Layers(context.Background(), img)
	if err != nil {
		t.Fatal(err)
	}
	u, err := cow.Open(cow.Config{Lowers: []cow.Lower{{Dir: dirs[0]}}})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for _, name := range []string{"a", "b"} {
		n, err := u.Lookup(u.Root(), name, nil)
		if err != nil {
			t.Fatal(err)
		}
		types := make(map[string]uint8)
		if err := u.ReadDir(n, 0, func(e cow.DirEntry) bool { types[e.Name] = e.Type; return true }); err != nil {
			t.Fatal(err)
		}
		if types["fifo"] != unix.DT_FIFO || types["device"] != unix.DT_CHR {
			t.Errorf("%s lists the types %v", name, types)
		}
		u.Forget(n, 1)
	}
}
