package cow

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// known counts the nodes that are in memory: those that listings lead to, and
// those that maps hold.
func (f *FS) known() int {
	seen := make(map[*Node]bool)
	var visit func(n *Node)
	visit = func(n *Node) {
		if n == nil || seen[n] {
			return
		}
		seen[n] = true
		if n.dir != nil {
			for ent := range n.dir.present() {
				visit(ent.node)
			}
		}
	}
	visit(f.root)
	for _, n := range f.links {
		visit(n)
	}
	for n := range f.orphans {
		visit(n)
	}
	for n := range f.dirty {
		visit(n)
	}
	return len(seen)
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	count := 0
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && (strings.HasPrefix(to, os.TempDir()) || strings.HasPrefix(to, "/dev/shm")) {
			count++ // others are the runtime's, which come and go
		}
	}
	return count
}

// TestForget: after any operations, with references held across them and given
// back in any order, no node but the root stays, and no descriptor is open
// after the end.
func TestForget(t *testing.T) {
	for seed := range uint64(12) {
		before := openFiles(t)
		rng := rand.New(rand.NewPCG(seed, 2))
		cfg := layers(t, tree{"d/e/f": "1", "d/g": "2", "h": "3", "i/": "", "large": strings.Repeat("x", smallFile+1), "s": "->h"}, tree{"d/e/j": "4", "i/k": "5"})
		must(t, os.Link(filepath.Join(cfg.Lowers[0].Dir, "h"), filepath.Join(cfg.Lowers[0].Dir, "d/link")))
		u := open(t, cfg)
		names := []string{"a", "d", "e", "f", "g", "h", "i", "j", "k", "large", "link", "s"}
		held := []*Node{u.root}
		u.root.refs.Add(1)
		some := func() *Node { return held[rng.IntN(len(held))] }
		name := func() string { return names[rng.IntN(len(names))] }
		keep := func(n *Node, err error) {
			if err == nil {
				held = append(held, n)
			}
		}
		var a Attr
		for range 400 {
			n := some()
			switch rng.IntN(12) {
			case 0, 1, 2, 3:
				keep(u.Lookup(n, name(), &a))
			case 4:
				keep(u.Create(Caller{}, n, name(), NewObject{Mode: []uint32{unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK, unix.S_IFIFO}[rng.IntN(4)] | 0o700, Target: "t"}, &a))
			case 5:
				_ = u.Unlink(n, name())
			case 6:
				_ = u.Rmdir(n, name())
			case 7:
				_ = u.Rename(Caller{}, n, name(), some(), name(), []uint32{0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE, unix.RENAME_WHITEOUT}[rng.IntN(4)])
			case 8:
				other := some()
				if u.Link(other, n, name(), &a) == nil {
					held = append(held, other)
				}
			case 9:
				_ = u.Write(n, []byte("text"), int64(rng.IntN(200<<10)), false)
				_, _ = u.Read(n, make([]byte, 10), 0)
			case 10:
				_ = u.ReadDirPlus(n, 0, nil, func(_ DirEntry, child *Node, _ *Attr) bool {
					if child != nil {
						held = append(held, child)
					}
					return true
				})
			case 11:
				keep(u.Tmpfile(Caller{}, n, 0o600, &a))
			}
			for len(held) > 1+rng.IntN(60) {
				i := 1 + rng.IntN(len(held)-1)
				u.Forget(held[i], 1)
				held[i] = held[len(held)-1]
				held = held[:len(held)-1]
			}
		}
		must(t, u.Sync()) // what is not synced is kept until it is
		for len(held) > 0 {
			i := rng.IntN(len(held))
			u.Forget(held[i], 1)
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
		}
		if count := u.known(); count != 1 {
			t.Errorf("seed %d: %d nodes are known after the last was forgotten", seed, count)
		}
		if u.root.dir.children.Load() != 0 || len(u.links)+len(u.orphans)+len(u.dirty) > 0 {
			t.Errorf("seed %d: children %d, links %d, orphans %d, dirty %d", seed, u.root.dir.children.Load(), len(u.links), len(u.orphans), len(u.dirty))
		}
		u.close()
		if now := openFiles(t); now != before {
			t.Errorf("seed %d: %d files are open, were %d", seed, now, before)
		}
	}
}

// wide makes a lower layer of files in directories, in memory where there is
// a filesystem for that.
func wide(t *testing.T, dirs, files int) Config {
	t.Helper()
	cfg := layers(t, tree{})
	if dir, err := os.MkdirTemp("/dev/shm", "mica-test-"); err == nil {
		t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
		cfg.Lowers[0].Dir = dir
	}
	for d := range dirs {
		path := filepath.Join(cfg.Lowers[0].Dir, fmt.Sprint("directory-", d))
		must(t, os.Mkdir(path, 0o700))
		dfd, err := unix.Open(path, unix.O_PATH, 0)
		must(t, err)
		for f := range files {
			fd, err := unix.Openat(dfd, fmt.Sprintf("file-%06d.txt", f), unix.O_CREAT|unix.O_WRONLY, 0o600)
			must(t, err)
			unix.Close(fd)
		}
		unix.Close(dfd)
	}
	return cfg
}

// TestDescriptorLimit touches thousands of files, in directories of all depths
// and all in use, with few descriptors.
func TestDescriptorLimit(t *testing.T) {
	cfg := wide(t, 60, 50)
	cfg.MaxFDs = 32
	before := openFiles(t)
	u := open(t, cfg)
	deep := "deep"
	must(t, u.mkdir(deep))
	for range 60 {
		deep += "/deeper"
		must(t, u.mkdir(deep))
	}
	most := 0
	var held []*Node
	buf := make([]byte, 16)
	touch := func(path string) {
		n, err := u.walk(path)
		must(t, err)
		held = append(held, n)
		must(t, u.Write(n, []byte("written"), 0, false))
		size, err := u.Read(n, buf, 0)
		if err != nil || string(buf[:size]) != "written" {
			t.Fatalf("%s: %q, %v", path, buf[:size], err)
		}
		if len(held)%50 == 0 {
			most = max(most, openFiles(t)-before)
		}
	}
	for f := range 50 {
		for d := range 60 {
			touch(fmt.Sprintf("directory-%d/file-%06d.txt", d, f))
		}
	}
	must(t, u.put(deep+"/bottom", "x", 0))
	touch(deep + "/bottom")
	// The locked work directory, staging, maps and the listing of /proc itself
	// are beside the cache.
	if most > cfg.MaxFDs+8 {
		t.Errorf("%d descriptors with a limit of %d", most, cfg.MaxFDs)
	}
	for _, n := range held {
		u.Forget(n, 1)
	}
	must(t, u.Sync())
	if count := u.known(); count != 1 {
		t.Errorf("%d nodes stay", count)
	}
}

// TestMemory bounds what a known node costs, and wants it back.
func TestMemory(t *testing.T) {
	const dirs, files = 20, 5000
	const limit = 230 // bytes for a node with its name; the server adds 16
	cfg := wide(t, dirs, files)
	u := open(t, cfg)
	base := heap()
	nodes := make([]*Node, 0, dirs*(files+1))
	var a Attr
	for d := range dirs {
		dir, err := u.Lookup(u.root, fmt.Sprint("directory-", d), &a)
		must(t, err)
		nodes = append(nodes, dir)
		must(t, u.ReadDirPlus(dir, 0, nil, func(_ DirEntry, n *Node, _ *Attr) bool {
			if n != nil {
				nodes = append(nodes, n)
			}
			return true
		}))
	}
	full := heap()
	each := int(full-base-8*uint64(cap(nodes))) / len(nodes)
	t.Logf("%d nodes, %d bytes each", len(nodes), each)
	if each > limit {
		t.Errorf("a node costs %d bytes, more than %d", each, limit)
	}
	for _, n := range nodes {
		u.Forget(n, 1)
	}
	nodes = nil
	if left := int(heap()-base) / (dirs * files); left > limit/20 {
		t.Errorf("%d bytes of each node stay", left)
	}
	runtime.KeepAlive(u)
}

// heap gives the bytes in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The block map of a partly copied file goes when the file does, and not
// before.
func TestMapGoesWithItsFile(t *testing.T) {
	cfg := layers(t, tree{"large": strings.Repeat("x", 4*smallFile)})
	u := open(t, cfg)
	maps := func() int {
		entries, err := os.ReadDir(filepath.Join(cfg.Work, mapsName))
		must(t, err)
		return len(entries)
	}
	must(t, u.put("large", "new", 5000))
	if got := maps(); got != 1 {
		t.Fatalf("after a write in the middle there are %d maps, want 1", got)
	}
	u.reopen()
	if got := maps(); got != 1 {
		t.Fatalf("after a remount there are %d maps, want 1", got)
	}
	must(t, u.with("large", func(*Node) error { return nil }))
	must(t, u.unlink("large"))
	must(t, u.Sync())
	if got := maps(); got != 0 {
		t.Errorf("after the removal of the file there are %d maps, want none", got)
	}
}

// TestNoAtime: with the option, no read changes an access time; without it,
// the upper's filesystem has its way.
func TestNoAtime(t *testing.T) {
	old := unix.Timespec{Sec: 1_000_000_000}
	for _, noAtime := range []bool{true, false} {
		cfg := layers(t, tree{"lower": "text", "copied": "text", "dir/x": ""})
		cfg.NoAtime = noAtime
		u := open(t, cfg)
		must(t, u.put("copied", "x", 0))
		must(t, u.put("new", "text", 0))
		for _, path := range []string{"copied", "new"} {
			must(t, u.with(path, func(n *Node) error { return u.Setattr(n, SetAttr{Atime: &old}, nil) }))
		}
		u.reopen()
		before := u.attr("lower").Atime
		lowerDir := filepath.Join(cfg.Lowers[0].Dir, "dir")
		must(t, unix.UtimesNano(lowerDir, []unix.Timespec{old, {Nsec: unix.UTIME_OMIT}}))
		must(t, u.with("dir", func(n *Node) error { _, err := u.names(n); return err }))
		var st unix.Stat_t
		must(t, unix.Stat(lowerDir, &st))
		if st.Atim.Sec != old.Sec {
			t.Errorf("NoAtime %v: a lower directory was accessed at %d", noAtime, st.Atim.Sec)
		}
		for _, path := range []string{"lower", "copied", "new"} {
			u.content(path)
		}
		if got := u.attr("lower").Atime; got != before {
			t.Errorf("NoAtime %v: a lower file was accessed at %v, had %v", noAtime, got, before)
		}
		for _, path := range []string{"copied", "new"} {
			if got := u.attr(path).Atime.Sec; noAtime && got != old.Sec {
				t.Errorf("%s was accessed at %d", path, got)
			}
		}
		u.close()
	}
}
