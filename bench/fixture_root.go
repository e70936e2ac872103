package bench

import (
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// buildRoot makes the root filesystem: a copy of a real one where the task names it, else a synthetic one of the shape
// of a small Debian root. Either is spread over layers as an image with a base and later steps is: half of it in the
// lowest layer, some files in two layers, some names whited out.
func buildRoot(dir string, t *task) (int, error) {
	entries := syntheticRoot(t.Scale)
	if t.RootDir != "" {
		var err error
		if entries, err = scanRoot(t.RootDir); err != nil {
			return 0, err
		}
	}
	n := t.Scale.RootLayers
	spreadLayers(entries, n)
	for i := range n {
		if err := writeTree(filepath.Join(dir, "l"+strconv.Itoa(i)), i, entries); err != nil {
			return 0, err
		}
	}
	if err := addWhiteouts(dir, n, entries); err != nil {
		return 0, err
	}
	if err := writeTree(filepath.Join(dir, "flat"), -1, entries); err != nil {
		return 0, err
	}
	return n, writeEntryLists(dir, entries)
}

// writeEntryLists writes the name lists of the merged tree.
func writeEntryLists(dir string, entries []entry) error {
	var files, dirs []string
	for _, e := range entries {
		switch {
		case e.mode.IsDir():
			dirs = append(dirs, e.path)
		case e.mode.IsRegular():
			files = append(files, e.path)
		}
	}
	if err := writeList(dir, "files", files); err != nil {
		return err
	}
	return writeList(dir, "dirs", dirs)
}

// spreadLayers assigns layers, deterministically: half the files to the lowest one, the rest evenly; every fiftieth
// file has an earlier version in the lowest layer. A directory is in the lowest layer, and above it wherever a file of it is.
func spreadLayers(entries []entry, n int) {
	rng := rand.New(rand.NewPCG(4, 2))
	where := map[string]int{}
	for i := range entries {
		e := &entries[i]
		switch {
		case e.mode.IsDir() || rng.IntN(2) == 0:
			e.layer = n - 1
		default:
			e.layer = rng.IntN(n)
		}
		if e.linkTo != "" {
			e.layer = where[e.linkTo]
		}
		if e.mode.IsRegular() {
			where[e.path] = e.layer
			if e.layer != n-1 && e.linkTo == "" && e.source == "" && i%50 == 0 {
				e.old = n - 1
			}
		}
	}
}

// addWhiteouts puts a file in the lowest layer and its whiteout in a higher one, for one entry in a hundred.
func addWhiteouts(dir string, n int, entries []entry) error {
	if n < 2 {
		return nil
	}
	for i, e := range entries {
		if i%100 != 7 || !e.mode.IsRegular() || e.layer == n-1 {
			continue
		}
		name := e.path + ".removed"
		low := filepath.Join(dir, "l"+strconv.Itoa(n-1), name)
		if err := os.MkdirAll(filepath.Dir(low), 0o755); err != nil {
			return fmt.Errorf("make file to white out: %w", err)
		}
		if err := os.WriteFile(low, []byte("removed later\n"), 0o644); err != nil {
			return fmt.Errorf("make file to white out: %w", err)
		}
		high := filepath.Join(dir, "l"+strconv.Itoa(e.layer), name)
		if err := unix.Mknod(high, unix.S_IFCHR, 0); err != nil {
			return fmt.Errorf("make whiteout %s: %w", high, err)
		}
		for _, d := range []string{filepath.Dir(low), filepath.Dir(high)} {
			if err := os.Chtimes(d, treeTime(), treeTime()); err != nil {
				return fmt.Errorf("set times: %w", err)
			}
		}
	}
	return nil
}

// syntheticRoot lists the objects of a made-up Debian root.
func syntheticRoot(sc scale) []entry {
	g := &rootMaker{rng: rand.New(rand.NewPCG(1, 9)), seen: map[string]bool{}}
	for _, d := range []string{"bin", "lib", "sbin"} {
		g.add(entry{path: d, mode: fs.ModeSymlink | 0o777, target: "usr/" + d})
	}
	for _, d := range []string{"dev", "proc", "sys", "tmp", "home", "srv", "mnt", "opt", "root", "run"} {
		g.dir(d)
	}
	libs, bins := "usr/lib/x86_64-linux-gnu", "usr/bin"
	share := sc.RootFiles / 20
	g.files(bins, "tool", "", share, 40000)
	g.files(libs, "lib", ".so.1", share, 60000)
	for i := range share / 2 {
		lib := fmt.Sprintf("lib%d.so.1", i)
		g.add(entry{path: libs + "/lib" + strconv.Itoa(i) + ".so", mode: fs.ModeSymlink | 0o777, target: lib})
		g.add(entry{path: fmt.Sprintf("%s/tool%d.1", "usr/share/man", i), mode: 0o644, size: g.size(2500)})
	}
	for i := range min(10, share) {
		g.add(entry{path: fmt.Sprintf("%s/alias%d", bins, i), mode: 0o755, linkTo: fmt.Sprintf("%s/tool%d", bins, i)})
	}
	g.files("var/lib/dpkg/info", "pkg", ".list", share*2, 900)
	g.files("etc", "conf", ".conf", share/4, 700)
	g.files("usr/lib/python3/dist-packages", "mod", ".py", share/4, 6000)
	g.files("usr/share/zoneinfo/Area", "zone", "", share, 1200)
	homes := []string{"usr/share/doc/pkg%d", "usr/share/locale/l%d/LC_MESSAGES", "usr/lib/python3/dist-packages/pkg%d/sub",
		"usr/share/perl/5.36/Mod%d", "etc/app%d", libs + "/gconv%d"}
	dirs := sc.RootDirs - len(g.dirs)
	for i := 0; i < dirs && len(g.dirs) < sc.RootDirs; i++ {
		left := max(1, sc.RootDirs-len(g.dirs))
		g.files(fmt.Sprintf(homes[i%len(homes)], i), "file", ".txt", max(1, (sc.RootFiles-g.count)/left), 6000)
	}
	return g.entries
}

// rootMaker collects entries, parents before children.
type rootMaker struct {
	rng     *rand.Rand
	seen    map[string]bool
	entries []entry
	dirs    []string
	count   int // objects that are no directories
}

func (g *rootMaker) dir(p string) {
	if p == "." || g.seen[p] {
		return
	}
	g.dir(filepath.Dir(p))
	g.seen[p] = true
	g.dirs = append(g.dirs, p)
	g.entries = append(g.entries, entry{path: p, mode: fs.ModeDir | 0o755})
}

func (g *rootMaker) add(e entry) {
	g.dir(filepath.Dir(e.path))
	g.entries = append(g.entries, e)
	g.count++
}

func (g *rootMaker) files(dir, prefix, suffix string, n, mean int) {
	for i := range n {
		g.add(entry{path: fmt.Sprintf("%s/%s%d%s", dir, prefix, i, suffix), mode: 0o644, size: g.size(mean)})
	}
}

// size draws from a log-normal distribution, as file sizes do, with about the given mean.
func (g *rootMaker) size(mean int) int {
	const sigma = 1.2
	mu := math.Log(float64(mean)) - sigma*sigma/2
	return min(int(math.Exp(mu+sigma*g.rng.NormFloat64())), 4<<20)
}

// scanRoot lists a real root filesystem. What is no file, directory or symlink is left out, and so is what the caller
// may not read, and other filesystems below it.
func scanRoot(root string) ([]entry, error) {
	var top unix.Stat_t
	if err := unix.Lstat(root, &top); err != nil {
		return nil, fmt.Errorf("scan root filesystem %s: %w", root, err)
	}
	var entries []entry
	links := map[[2]uint64]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if d != nil && d.IsDir() {
				return fs.SkipDir
			}
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil || rel == "." {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			if err == unix.ENOENT {
				return nil // gone meanwhile
			}
			return &fs.PathError{Op: "stat", Path: p, Err: err}
		}
		e := entry{path: rel, mode: d.Type() | fs.FileMode(st.Mode&0o777)}
		switch {
		case d.IsDir():
			if st.Dev != top.Dev || unix.Access(p, unix.R_OK|unix.X_OK) != nil {
				return fs.SkipDir
			}
			e.mode |= 0o700
		case d.Type()&fs.ModeSymlink != 0:
			if e.target, err = os.Readlink(p); err != nil {
				return err
			}
		case d.Type().IsRegular():
			if unix.Access(p, unix.R_OK) != nil {
				return nil
			}
			e.mode |= 0o600
			e.source = p
			if st.Nlink > 1 {
				key := [2]uint64{st.Dev, st.Ino}
				e.linkTo = links[key]
				if e.linkTo == "" {
					links[key] = rel
				}
			}
		default:
			return nil
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("scan root filesystem: %w", err)
	}
	return entries, nil
}
