// Command hunt runs seeds of package fstest on a union filesystem until one
// shows a difference from a plain directory, and cuts that one down.
//
//	hunt -union plain                                  the generator against itself
//	hunt -union mica -program ./mica -seeds 1:100      mica overlay
//	hunt -union kernel                                 kernel overlayfs (root, or in a user namespace)
//	hunt -union fuse-overlayfs
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mica/internal/fstest"
)

func main() {
	if err := hunt(); err != nil {
		fmt.Fprintln(os.Stderr, "hunt:", err)
		os.Exit(1)
	}
}

type flags struct {
	union, program, options, dir, log string
	seeds                             string
	ops, remount, forget, layers      int
	crash, compare                    int
	multi, anyMode, hidden, goOn      bool
	acls, devices, trusted, stats     bool
	special                           bool
	shrink                            int
}

func hunt() error {
	var f flags
	flag.StringVar(&f.union, "union", "plain", "plain, mica, kernel or fuse-overlayfs")
	flag.StringVar(&f.program, "program", "mica", "the mica binary")
	flag.StringVar(&f.options, "o", "", "further mount options")
	flag.StringVar(&f.dir, "dir", os.TempDir(), "where runs make their directories")
	flag.StringVar(&f.log, "log", "/dev/null", "file for the server's messages")
	flag.StringVar(&f.seeds, "seeds", "1:10", "first and last seed")
	flag.IntVar(&f.ops, "ops", 2000, "operations of a run")
	flag.IntVar(&f.remount, "remount", 400, "mean operations between remounts, 0 for never")
	flag.IntVar(&f.forget, "forget", 0, "mean operations between droppings of kernel caches, 0 for never; needs root")
	flag.IntVar(&f.crash, "crash", 0, "mean operations between kills of the server, 0 for never")
	flag.IntVar(&f.compare, "compare", 0, "operations between comparisons of whole trees, 0 for the usual")
	flag.IntVar(&f.layers, "layers", 5, "most lower layers")
	flag.BoolVar(&f.multi, "multi", os.Geteuid() == 0, "actors with several credentials; needs root")
	flag.BoolVar(&f.anyMode, "anymode", os.Geteuid() == 0, "modes that deny the owner, set-id, sticky")
	flag.BoolVar(&f.hidden, "hidden", false, "hide some names of hard-linked lower files")
	flag.BoolVar(&f.acls, "acls", false, "set POSIX ACLs too")
	flag.BoolVar(&f.devices, "devices", false, "make device nodes too; needs root")
	flag.BoolVar(&f.trusted, "trusted", false, "set trusted and security attributes too; needs root")
	flag.BoolVar(&f.special, "special", false, "symlinks and special files may change their inode number at copy-up")
	flag.BoolVar(&f.stats, "stats", false, "tell how often each operation gave what")
	flag.BoolVar(&f.goOn, "k", false, "go on with the next seed after a difference")
	flag.IntVar(&f.shrink, "shrink", 600, "attempts at cutting a failure down")
	flag.Parse()

	u, err := union(&f)
	if err != nil {
		return err
	}
	var first, last uint64
	if _, err := fmt.Sscanf(f.seeds, "%d:%d", &first, &last); err != nil {
		return fmt.Errorf("read seeds %q: want FIRST:LAST", f.seeds)
	}
	known := map[string]int{}
	opt := options(&f, known)
	stats := map[string]int{}
	if f.stats {
		opt.Done = func(o fstest.Op, r fstest.Result) {
			r.Val = ""
			stats[fmt.Sprintf("%-16s %s", o.Code, r)]++
		}
	}
	start, bad := time.Now(), 0
	for seed := first; seed <= last; seed++ {
		if err := one(seed, u, opt, &f); err != nil {
			bad++
			fmt.Printf("seed %d: %v\n", seed, err)
			if !f.goOn {
				return fmt.Errorf("seed %d failed", seed)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(stats)) {
		fmt.Printf("%7d %s\n", stats[k], k)
	}
	fmt.Printf("%d seeds of %d operations, %d with differences, %s; tolerated: %v\n",
		last-first+1, f.ops, bad, time.Since(start).Round(time.Millisecond), known)
	return nil
}

func union(f *flags) (fstest.Union, error) {
	log, err := os.OpenFile(f.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	extra := ""
	if f.options != "" {
		extra = "," + f.options
	}
	switch f.union {
	case "plain":
		return fstest.Plain{}, nil
	case "mica":
		if f.multi {
			extra += ",allow_other"
		}
		return &fstest.Program{Argv: []string{f.program, "overlay"}, Options: extra, Log: log}, nil
	case "fuse-overlayfs":
		if f.multi {
			extra += ",allow_other"
		}
		return &fstest.Program{Argv: []string{"fuse-overlayfs"}, Options: extra, Log: log}, nil
	case "kernel":
		return fstest.Kernel{Options: extra}, nil
	}
	return nil, fmt.Errorf("unknown union %q: plain, mica, kernel or fuse-overlayfs", f.union)
}

func options(f *flags, known map[string]int) fstest.Options {
	opt := fstest.Options{
		Scene:           fstest.SceneOptions{MaxLayers: f.layers, AnyMode: f.anyMode, HiddenLinks: f.hidden, ACLs: f.acls, Caps: f.trusted},
		Ops:             f.ops,
		RemountEvery:    f.remount,
		ForgetEvery:     f.forget,
		CrashEvery:      f.crash,
		CompareEvery:    f.compare,
		ACLs:            f.acls,
		UnstableSpecial: f.special,
		Devices:         f.devices,
		Trusted:         f.trusted,
		Known:           func(word string) { known[word]++ },
		Actors:          []fstest.Cred{{}, {}},
	}
	opt.Scene.IDs = []uint32{uint32(os.Getuid())}
	if f.multi {
		opt.Scene.IDs = []uint32{0, 1000, 2000}
		opt.Actors = []fstest.Cred{{}, {UID: 1000, GID: 1000, Groups: []uint32{2000}}, {UID: 2000, GID: 2000}}
	}
	opt.Scene.Spellings = []fstest.Spelling{fstest.Device, fstest.DotWh, fstest.XattrWh, fstest.FuseOverlayfs, fstest.DotWhLinked}
	opt.Stored = strings.Contains(f.options, "owners=stored")
	opt.NoCollapse = f.union == "mica" || f.union == "fuse-overlayfs"
	switch f.union {
	case "kernel":
		opt.Scene.Spellings = []fstest.Spelling{fstest.Device}
		opt.Scene.NeededWhiteouts = true
		opt.UnstableInodes = true
	case "fuse-overlayfs":
		opt.Scene.Spellings = []fstest.Spelling{fstest.Device, fstest.DotWh, fstest.FuseOverlayfs}
		opt.UnstableInodes = true
	}
	return opt
}

func one(seed uint64, u fstest.Union, opt fstest.Options, f *flags) error {
	dir := filepath.Join(f.dir, fmt.Sprintf("hunt-%d-%d", os.Getpid(), seed))
	temp := func() (string, error) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", err
		}
		return os.MkdirTemp(dir, "run")
	}
	defer removeAll(dir)
	base, err := temp()
	if err != nil {
		return err
	}
	err = fstest.Run(base, u, seed, opt)
	var fail *fstest.Failure
	if !errors.As(err, &fail) {
		return err
	}
	fmt.Printf("seed %d: %.300q\n", seed, fail.What)
	fail = fstest.Shrink(fail, f.shrink, fstest.Again(temp, u, opt))
	return fmt.Errorf("%w%s", fail, fail.Scene)
}

// removeAll removes a tree whatever its modes.
func removeAll(dir string) {
	filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			os.Chmod(p, 0o700)
		}
		return nil
	})
	os.RemoveAll(dir)
}
