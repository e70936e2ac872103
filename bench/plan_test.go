package bench

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// planFor plans with an executable that is there.
func planFor(t *testing.T, opt Options) (*runPlan, error) {
	t.Helper()
	opt.Agent = []string{os.Args[0], AgentCommand}
	if opt.Dir == "" {
		opt.Dir = filepath.Join(t.TempDir(), "bench")
	}
	return plan(opt)
}

func TestPlanTellsWorkloadsFromDirectories(t *testing.T) {
	dir := t.TempDir()
	p, err := planFor(t, Options{Args: []string{"stat*", "copy-up", dir}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, w := range p.workloads {
		names = append(names, w.Name)
	}
	want := []string{"stat", "stat-cold", "append-1", "rewrite-block", "chmod-big", "rename-big", "rename-dir"}
	if !slices.Equal(names, want) {
		t.Errorf("got workloads %v, want %v", names, want)
	}
	last := p.peers[len(p.peers)-1]
	if last.Dir != dir || last.Kind != peerFlat {
		t.Errorf("the directory became the peer %+v", last)
	}
}

func TestPlanRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		opt  Options
		want string
	}{
		{"unknown workload", Options{Args: []string{"statt"}}, "--list"},
		{"file as directory", Options{Args: []string{file}}, "no such directory"},
		{"unknown peer", Options{Peers: []string{"other"}}, "built in are"},
		{"peer without command", Options{Extra: []string{"name="}}, "NAME=COMMAND"},
		{"peer with a slash", Options{Extra: []string{"a/b=cmd"}}, "slashes"},
		{"negative runs", Options{Runs: -1}, "negative"},
		{"root and image", Options{Root: "/", Image: "debian"}, "exclude"},
		{"root that is not there", Options{Root: "/nonexistent"}, "no such file"},
		{"directory with a comma", Options{Dir: "/tmp/a,b"}, "--dir"},
		{"subject that takes no part", Options{Subject: "other"}, "no such peer takes part"},
		{"binary that is not there", Options{Mica: "/nonexistent"}, "find the binary"},
	} {
		_, err := planFor(t, c.opt)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", c.name, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error has several lines: %v", c.name, err)
		}
	}
}

func TestQuickTakesAPart(t *testing.T) {
	p, err := planFor(t, Options{Quick: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(p.workloads) == 0 || len(p.workloads) >= len(List()) || p.Runs != 3 {
		t.Errorf("quick took %d of %d workloads, %d runs", len(p.workloads), len(List()), p.Runs)
	}
	named, err := planFor(t, Options{Quick: true, Args: []string{"go-build"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(named.workloads) != 1 {
		t.Errorf("a workload that was named was left out for being slow: %v", named.workloads)
	}
}

func TestWorkloadsAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, w := range List() {
		if seen[w.Name] {
			t.Errorf("%s: there are two", w.Name)
		}
		seen[w.Name] = true
		if w.Name == "" || w.Group == "" || w.About == "" {
			t.Errorf("%+v: it lacks a name, group or description", w)
		}
		if w.Kind == OnMount && (w.pass == nil || w.answer == nil) {
			t.Errorf("%s: it lacks a pass or an answer", w.Name)
		}
		if w.Kind == OnTool && len(w.variants) == 0 {
			t.Errorf("%s: it has no variants", w.Name)
		}
		if w.Cold && w.Once {
			t.Errorf("%s: cold and once exclude each other", w.Name)
		}
		name := w.Fixture
		if name == "" {
			name = "empty"
		}
		if _, err := fixtureBuilder(name); err != nil {
			t.Errorf("%s: %v", w.Name, err)
		}
	}
}

func TestParsePeer(t *testing.T) {
	p, err := parsePeer("mine=my-overlay {lower} -- {dir}")
	if err != nil {
		t.Fatal(err)
	}
	argv := p.expand(map[string]string{"lower": "l0:l1", "upper": "/u", "work": "/w", "dir": "/a b", "stats": "/s"})
	want := []string{"sh", "-c", `my-overlay "$1" -- "$4"`, "sh", "l0:l1", "/u", "/w", "/a b"}
	if !slices.Equal(argv, want) {
		t.Errorf("got %q, want %q", argv, want)
	}
	if p.hasStats() {
		t.Error("the command asks for no counts")
	}
	p, err = parsePeer("mine=my-overlay -f")
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Argv[2]; got != `my-overlay -f -o lowerdir="$1",upperdir="$2",workdir="$3" "$4"` {
		t.Errorf("a command without places became %q", got)
	}
}

func TestRotateIsAPermutationOfEachWorkload(t *testing.T) {
	a, b := &Workload{}, &Workload{}
	pairs := []pair{{workload: a}, {workload: a}, {workload: a}, {workload: b}, {workload: b}}
	for round := range 7 {
		var got []int
		for i := range pairs {
			j := rotate(pairs, i, round)
			if pairs[j].workload != pairs[i].workload {
				t.Fatalf("round %d: %d went to another workload's %d", round, i, j)
			}
			got = append(got, j)
		}
		if round == 0 && !slices.IsSorted(got) {
			t.Errorf("the first round is not in order: %v", got)
		}
		slices.Sort(got)
		if len(slices.Compact(got)) != len(pairs) {
			t.Errorf("round %d leaves something out", round)
		}
	}
}

// TestClaimDir: what a benchmark will remove is a directory of its own.
func TestClaimDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	for range 2 { // a new one, and that of an earlier run
		if err := claimDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "thesis.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := claimDir(full); err == nil || !strings.Contains(err.Error(), "--dir") {
		t.Errorf("a directory with files was taken: %v", err)
	}
}
