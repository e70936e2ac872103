package cow

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
)

// catalogOf makes a catalog of the tree in dir, beside it.
func catalogOf(t testing.TB, dir string) string {
	t.Helper()
	path := dir + ".catalog"
	must(t, WriteCatalog(path, dir))
	return path
}

// listings lists all directories of a union, with everything that a listing tells, by path.
func listings(t testing.TB, u *union) map[string]string {
	t.Helper()
	all := make(map[string]string)
	var list func(path string)
	list = func(path string) {
		var text strings.Builder
		var subs []string
		must(t, u.with(path, func(n *Node) error {
			return u.ReadDir(n, 0, func(e DirEntry) bool {
				fmt.Fprintf(&text, "%q %d %d %d\n", e.Name, e.Type, e.Ino, e.Cookie)
				if e.Type == unix.DT_DIR && e.Name != "." && e.Name != ".." {
					subs = append(subs, e.Name)
				}
				return true
			})
		}))
		all[path] = text.String()
		for _, name := range subs {
			list(filepath.Join(path, name))
		}
	}
	list(".")
	return all
}

// catalogLayers is a stack with all that a catalog has to keep.
func catalogLayers(t testing.TB) Config {
	long, many := strings.Repeat("n", nameMax), tree{"odd\xff\nname/x": "", "deep/a/b/c/d/e": "e", "gone/inside": "", "file": ""}
	many[long+"/"+long] = "long"
	for i := range 150 {
		many[fmt.Sprintf("many/%04d/in", i)] = ""
		many[fmt.Sprintf("many/f%04d", i)] = ""
	}
	cfg := layers(t, tree{"deep/a/b/new": "", "many/0007": "a file over a directory", "empty/": ""}, many)
	top, err := sys.OpenDir(unix.AT_FDCWD, cfg.Lowers[0].Dir)
	must(t, err)
	defer sys.Close(top)
	must(t, unix.Mknodat(top, "gone", unix.S_IFCHR, 0))
	must(t, ondisk.Create(top, "device", ondisk.Object{Meta: ondisk.Meta{Mode: unix.S_IFBLK | 0o600, Rdev: 5}}))
	must(t, unix.Symlinkat("file", top, "symlink"))
	return cfg
}

// TestCatalog: with catalogs a union shows what it shows without, and reads no directory for it.
func TestCatalog(t *testing.T) {
	cfg := catalogLayers(t)
	u := open(t, cfg)
	want := listings(t, u)
	u.close()
	for i, l := range cfg.Lowers {
		cfg.Lowers[i].Catalog = catalogOf(t, l.Dir)
	}
	u = open(t, cfg)
	compareTrees(t, "with catalogs", listings(t, u), want)
	must(t, u.with("many/0042", func(n *Node) error {
		if _, err := u.names(n); err != nil {
			return err
		}
		if n.dir.stack[0].fd.fdPlus1 != 0 {
			t.Errorf("a directory of the layer was opened to list it")
		}
		return nil
	}))
}

// TestCatalogOfCopy: a copy of a layer has other inodes, and its catalog is not used.
func TestCatalogOfCopy(t *testing.T) {
	cfg := catalogLayers(t)
	from := cfg.Lowers[1].Dir
	must(t, WriteCatalog(from+".catalog", from))
	copied := from + "-copy"
	if out, err := exec.Command("cp", "-a", from, copied).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	cfg.Lowers = []Lower{{Dir: copied}}
	u := open(t, cfg)
	want := listings(t, u)
	u.close()
	cfg.Lowers[0].Catalog = from + ".catalog"
	u = open(t, cfg)
	if u.layers[1].catalog.get() != nil {
		t.Error("the catalog of another tree is used")
	}
	compareTrees(t, "a copy", listings(t, u), want)
}

// TestCatalogDamaged: whatever is wrong with a catalog, the union shows what the disk has.
func TestCatalogDamaged(t *testing.T) {
	cfg := layers(t, tree{"a/b/c/d": "", "a/x/y": "", "a/x/z": "", "e/f": "", "g": "", "h/": ""})
	u := open(t, cfg)
	want := listings(t, u)
	u.close()
	path := catalogOf(t, cfg.Lowers[0].Dir)
	cfg.Lowers[0].Catalog = path
	whole, err := os.ReadFile(path)
	must(t, err)
	damaged := func(what string, content []byte) {
		t.Helper()
		must(t, os.WriteFile(path, content, 0o600))
		u := open(t, cfg)
		compareTrees(t, what, listings(t, u), want)
		u.close()
	}
	for at := range whole {
		b := append([]byte(nil), whole...)
		b[at] ^= 1 << (at % 8)
		damaged(fmt.Sprintf("byte %d changed", at), b)
	}
	for size := range whole {
		damaged(fmt.Sprintf("cut to %d bytes", size), whole[:size])
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 100 {
		b := append([]byte(nil), whole...)
		for range 1 + rng.IntN(8) {
			b[rng.IntN(len(b))] = byte(rng.Uint32())
		}
		damaged(fmt.Sprintf("random damage %d", i), b)
	}
	damaged("twice as long", append(whole, whole...))
}

// TestCatalogOverwritten: whatever becomes of a catalog that is in use, the union shows what the disk has.
func TestCatalogOverwritten(t *testing.T) {
	cfg := catalogLayers(t)
	path := catalogOf(t, cfg.Lowers[1].Dir)
	cfg.Lowers[1].Catalog = path
	u := open(t, cfg)
	want := listings(t, u)
	u.close()
	whole, err := os.ReadFile(path)
	must(t, err)
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 100 {
		must(t, os.WriteFile(path, whole, 0o600))
		u := open(t, cfg)
		must(t, u.with("many/0042", func(*Node) error { return nil })) // maps it, and has looked at some of it
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		must(t, err)
		for range 1 + rng.IntN(2000) {
			_, err = f.WriteAt([]byte{byte(rng.Uint32())}, rng.Int64N(int64(len(whole))))
			must(t, err)
		}
		must(t, f.Close())
		compareTrees(t, fmt.Sprintf("overwritten %d", i), listings(t, u), want)
		u.close()
	}
}

// TestKeepCatalogs: what can have no catalog is a layer all the same.
func TestKeepCatalogs(t *testing.T) {
	cfg := layers(t, tree{"a": ""}, tree{"shut/x": "", "b": ""})
	shut := filepath.Join(cfg.Lowers[1].Dir, "shut")
	must(t, os.Chmod(shut, 0))
	defer os.Chmod(shut, 0o700)
	dir := t.TempDir()
	for range 2 { // made, and found
		must(t, KeepCatalogs(dir, cfg.Lowers))
		if cfg.Lowers[0].Catalog == "" || cfg.Lowers[1].Catalog != "" {
			t.Errorf("catalogs %+v", cfg.Lowers)
		}
	}
	u := open(t, cfg)
	must(t, u.with("b", func(*Node) error { return nil }))
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestCatalogCutOff: a catalog that gets shorter while it is in use is an error of reading, and no end of the server.
func TestCatalogCutOff(t *testing.T) {
	cfg := catalogLayers(t)
	cfg.Lowers[1].Catalog = catalogOf(t, cfg.Lowers[1].Dir)
	u := open(t, cfg)
	must(t, u.with("deep", func(*Node) error { return nil }))
	must(t, os.Truncate(cfg.Lowers[1].Catalog, 0))
	must(t, u.with("deep/a/b/c", func(n *Node) error {
		_, err := u.names(n)
		return err
	}))
}
