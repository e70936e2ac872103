package cow

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
)

// TestCheck: each thing that can be wrong is found where it is, and what can
// be repaired is.
func TestCheck(t *testing.T) {
	set := func(path, attr, value string) func(cfg Config) error {
		return func(cfg Config) error {
			return unix.Lsetxattr(filepath.Join(filepath.Dir(cfg.Upper), path), attr, []byte(value), 0)
		}
	}
	remove := func(path, attr string) func(cfg Config) error {
		return func(cfg Config) error {
			return unix.Lremovexattr(filepath.Join(filepath.Dir(cfg.Upper), path), attr)
		}
	}
	write := func(path string) func(cfg Config) error {
		return func(cfg Config) error {
			return os.WriteFile(filepath.Join(filepath.Dir(cfg.Upper), path), []byte("x"), 0o600)
		}
	}
	for name, c := range map[string]struct {
		harm     func(cfg Config) error
		path     string
		repaired bool
	}{
		"nothing":               {harm: func(Config) error { return nil }},
		"left in staging":       {write("work/staging/7"), "work/staging", true},
		"not closed":            {write("work/volatile"), "work/volatile", false},
		"map of no file":        {write("work/maps/7"), "work/maps/7", true},
		"not in the index":      {write("work/index/what"), "work/index/what", false},
		"a symlink not needed":  {write("work/index/kept-7"), "work/index/kept-7", true},
		"an inode not needed":   {write("work/index/ino-7"), "work/index/ino-7", true},
		"a copy with no name":   {write("work/index/7"), "work/index/7", false},
		"origin of a directory": {set("upper/d", originXattr, "nonsense"), "upper/d", true},
		"origin of a file":      {set("upper/small", originXattr, "nonsense"), "upper/small", false},
		"lower file gone": {func(cfg Config) error {
			return os.Remove(filepath.Join(cfg.Lowers[0].Dir, "large"))
		}, "upper/large", false},
		"redirect":        {set("upper/moved", redirectXattr, "nowhere"), "upper/moved", false},
		"owners":          {set("upper/small", ondisk.OverrideXattr, "nonsense"), "upper/small", false},
		"no mark of type": {remove("upper/d", ondisk.PlaceholderXattr), "upper/d", true},
		"map gone": {func(cfg Config) error {
			return os.RemoveAll(filepath.Join(cfg.Work, mapsName))
		}, "upper/large", false},
		"link count too low": {func(cfg Config) error {
			return set("work/index/"+indexEntry(t, cfg), nlinkXattr, "-1")(cfg)
		}, "work/index/", true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := layers(t, tree{
				"small": "small", "large": strings.Repeat("0123456789abcdef", 20<<10), "d/link": "->small", "linked": "linked", "dir/sub/x": "x",
			})
			must(t, os.Link(filepath.Join(cfg.Lowers[0].Dir, "linked"), filepath.Join(cfg.Lowers[0].Dir, "again")))
			u := open(t, cfg)
			must(t, u.put("small", "new", 0))
			must(t, u.put("large", "new", 5000))
			must(t, u.put("linked", "new", 0))
			must(t, u.rename("dir/sub", "moved", 0))
			must(t, u.with("d/link", func(n *Node) error { return u.Setattr(n, SetAttr{UID: new(uint32)}, nil) }))
			must(t, u.with("d/link", func(n *Node) error { one := uint32(1); return u.Setattr(n, SetAttr{UID: &one}, nil) }))
			if _, err := Check(cfg, true); !errors.Is(err, ErrInUse) {
				t.Errorf("of a mounted union: %v", err)
			}
			u.close()
			must(t, c.harm(cfg))
			problems, err := Check(cfg, false)
			must(t, err)
			if c.path == "" {
				if len(problems) > 0 {
					t.Fatalf("found %v", problems)
				}
				return
			}
			if len(problems) == 0 || !strings.HasPrefix(problems[0].Path, c.path) || problems[0].Repaired {
				t.Fatalf("found %v, want one at %s", problems, c.path)
			}
			problems, err = Check(cfg, true)
			must(t, err)
			if len(problems) == 0 || problems[0].Repaired != c.repaired {
				t.Errorf("repaired: %v, want %v", problems, c.repaired)
			}
			if problems, err = Check(cfg, false); err != nil || c.repaired && len(problems) > 0 || !c.repaired && len(problems) == 0 {
				t.Errorf("afterwards: %v, %v", problems, err)
			}
		})
	}
}

// indexEntry is the name of the one copy in the index.
func indexEntry(t *testing.T, cfg Config) string {
	entries, err := os.ReadDir(filepath.Join(cfg.Work, indexName))
	must(t, err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "kept-") {
			return e.Name()
		}
	}
	t.Fatal("the index is empty")
	return ""
}

// TestCheckLinked: the map of a partly copied file belongs to its copy in the index, too, which may be all that is left in the
// upper: a repair leaves both alone, and the content.
func TestCheckLinked(t *testing.T) {
	text := strings.Repeat("0123456789abcdef", 20<<10)
	for _, change := range []string{"content", "mode"} {
		cfg := layers(t, tree{"f": text})
		must(t, os.Link(filepath.Join(cfg.Lowers[0].Dir, "f"), filepath.Join(cfg.Lowers[0].Dir, "g")))
		u := open(t, cfg)
		want := text
		if change == "content" {
			must(t, u.put("f", "new", 5000))
			want = text[:5000] + "new" + text[5003:]
		} else {
			must(t, u.chmod("f", 0o640))
		}
		must(t, u.unlink("f"))
		u.close()
		for _, repair := range []bool{false, true} {
			if problems, err := Check(cfg, repair); err != nil || len(problems) > 0 {
				t.Errorf("%s: repair %v: %v, %v", change, repair, problems, err)
			}
		}
		u = open(t, cfg)
		if got := u.content("g"); got != want {
			t.Errorf("%s: the other name has other content", change)
		}
		u.close()
	}
}

// TestCheckSettles: a repair makes durable what a killed process had not
// synced yet.
func TestCheckSettles(t *testing.T) {
	cfg := layers(t, tree{"small": "small", "large": strings.Repeat("x", 300<<10)})
	u := open(t, cfg)
	must(t, u.put("small", "new", 0))
	must(t, u.put("large", "new", 5000))
	u.kill()
	problems, err := Check(cfg, true)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	for path, want := range map[string]string{"small": " " + string(stateFull), "large": " " + string(stateMap) + "="} {
		buf := make([]byte, 4096)
		size, err := unix.Lgetxattr(filepath.Join(cfg.Upper, path), originXattr, buf)
		must(t, err)
		if record := string(buf[:size]); !strings.Contains(record, want) {
			t.Errorf("%s has the record %q, want%s", path, record, want)
		}
	}
}

// killedEnv makes the test binary the process that TestKilled kills: it holds
// the directory of the union and the seed.
const killedEnv = "MICA_COW_TEST_KILLED"

// TestKilled kills a process at any moment of a stream of operations. What the
// next one finds is the tree before or after the one that was cut off, and
// leftovers at most.
func TestKilled(t *testing.T) {
	if where := os.Getenv(killedEnv); where != "" {
		base, seed, _ := strings.Cut(where, "\n")
		n, err := strconv.ParseUint(seed, 10, 64)
		must(t, err)
		playUntilKilled(t, base, n)
		return
	}
	for seed := range uint64(25) {
		base := t.TempDir()
		cfg := killedScene(t, base)
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), killedEnv+"="+base+"\n"+strconv.FormatUint(seed, 10))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		// Some operations are let through, then the process dies at no
		// particular point.
		rng := rand.New(rand.NewPCG(seed, 8))
		wait, done := 5+rng.IntN(150), 0
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if !strings.HasPrefix(lines.Text(), "done") {
				continue
			}
			if done++; done == wait {
				time.Sleep(time.Duration(rng.IntN(300)) * time.Microsecond)
				must(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait()
		if done < wait {
			t.Fatalf("seed %d: the process ended after %d operations", seed, done)
		}
		problems, err := Check(cfg, false)
		must(t, err)
		for _, p := range problems {
			if !strings.HasPrefix(p.Path, "work/staging") && !strings.HasPrefix(p.Path, "work/maps/") && p.What != "no name leads to it" {
				t.Errorf("seed %d: after a kill: %+v", seed, p)
			}
		}
		// The tree is that after the operations that were told, or one more.
		before, after := replayKilled(t, seed, done), replayKilled(t, seed, done+1)
		u := open(t, cfg)
		got := walkUnion(t, u.FS)
		resolve(got)
		if !maps.Equal(got, before) && !maps.Equal(got, after) {
			t.Errorf("seed %d: after %d operations and a kill:\n%v\nwant\n%v\nor\n%v", seed, done, got, before, after)
		}
		u.close()
		if problems, err := Check(cfg, true); err != nil {
			t.Errorf("seed %d: repair: %v, %v", seed, problems, err)
		}
		if problems, err := Check(cfg, false); err != nil || len(problems) > 0 {
			t.Errorf("seed %d: after a repair: %v, %v", seed, problems, err)
		}
	}
}

// killedScene makes the layers that the process works on.
func killedScene(t *testing.T, base string) Config {
	t.Helper()
	cfg := Config{Upper: filepath.Join(base, "upper"), Work: filepath.Join(base, "work"), Lowers: []Lower{{Dir: filepath.Join(base, "lower")}}}
	for _, dir := range []string{cfg.Upper, cfg.Work, cfg.Lowers[0].Dir} {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	if _, err := os.Lstat(filepath.Join(cfg.Lowers[0].Dir, "b/a")); err == nil {
		return cfg // the parent has made them
	}
	tree{"a": "a", "b/x": "x", "b/y": strings.Repeat("y", 200<<10), "c/d/z": "z", "e": "->a"}.write(t, cfg.Lowers[0].Dir)
	must(t, os.Link(filepath.Join(cfg.Lowers[0].Dir, "a"), filepath.Join(cfg.Lowers[0].Dir, "b/a")))
	return cfg
}

// killedStep does the i-th operation of a seed; what it finds there decides
// whether it fails, on every tree alike.
func killedStep(u *union, seed uint64, i int) {
	rng := rand.New(rand.NewPCG(seed, uint64(i)))
	paths := []string{"a", "b", "b/x", "b/y", "b/a", "c", "c/d", "c/d/z", "e", "n", "n/a", "b/n"}
	from, to := paths[rng.IntN(len(paths))], paths[rng.IntN(len(paths))]
	switch rng.IntN(8) {
	case 0, 1:
		text, off := strconv.Itoa(i), rng.Int64N(2)*100<<10
		if u.with(from, func(*Node) error { return nil }) == unix.ENOENT {
			text = "" // to make the file and to write to it are two operations
		}
		_ = u.put(from, text, off)
	case 2:
		_ = u.unlink(from)
	case 3:
		_ = u.rmdir(from)
	case 4:
		_ = u.rename(from, to, 0)
	case 5:
		_ = u.link(from, to)
	case 6:
		_ = u.mkdir(from)
	case 7:
		_ = u.rename(from, to, unix.RENAME_EXCHANGE)
	}
}

// playUntilKilled is the process that dies.
func playUntilKilled(t *testing.T, base string, seed uint64) {
	u := open(t, killedScene(t, base))
	for i := range 100_000 {
		killedStep(u, seed, i)
		fmt.Println("done", i)
	}
}

// replayKilled gives the tree that the first operations of a seed leave.
func replayKilled(t *testing.T, seed uint64, steps int) map[string]string {
	t.Helper()
	u := open(t, killedScene(t, t.TempDir()))
	defer u.close()
	for i := range steps {
		killedStep(u, seed, i)
	}
	tree := walkUnion(t, u.FS)
	resolve(tree)
	return tree
}
