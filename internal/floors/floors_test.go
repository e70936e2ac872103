// Package floors holds the test that packages import only downwards.
package floors

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// floors lists the packages from the top of the house down, with those that stand side by side on one floor. A package
// imports from floors below its own, and from subpackages of its own; what has no line of its own is such a subpackage.
var floors = [][]string{
	{"mica/cmd/mica"},
	{"mica/run/build"},
	{"mica/run"},
	{"mica/run/supervise", "mica/run/mountserver", "mica/run/attach"},
	{"mica/run/desktop"},
	{"mica/run/home", "mica/run/account", "mica/run/generated"},
	{"mica/run/tree", "mica/run/mounted"},
	{"mica/run/skeleton", "mica/run/userns", "mica/run/limits", "mica/run/ports", "mica/run/logs"},
	{"mica/run/record", "mica/run/volume", "mica/run/control", "mica/run/archive"},
	{"mica/run/sandbox"},
	{"mica/bench"},
	{"mica/fs"},
	{"mica/layerstore"},
	{"mica/cow"},
	{"mica/whiteout"},
	{"mica/internal"},
}

// alone lists packages that import nothing of the project but what is named.
var alone = map[string][]string{
	"mica/bench":       {"mica/internal"},
	"mica/run/sandbox": {"mica/internal"},
	"mica/cow":         {"mica/internal", "mica/whiteout"},
	"mica/layerstore":  {"mica/internal", "mica/whiteout", "mica/cow"},
}

// noFUSE lists packages that must not know FUSE.
var noFUSE = []string{"mica/cow", "mica/layerstore", "mica/whiteout", "mica/internal"}

// floorOf is the floor with the longest matching name, counted from the top, and that name; -1 for
// what is not the project's.
func floorOf(pkg string) (floor int, name string) {
	floor = -1
	for i, side := range floors {
		for _, f := range side {
			if (pkg == f || strings.HasPrefix(pkg, f+"/")) && len(f) > len(name) {
				floor, name = i, f
			}
		}
	}
	return floor, name
}

func TestImportsGoDownwards(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "mica/...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	type pkg struct {
		ImportPath string
		Imports    []string
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		from, name := floorOf(p.ImportPath)
		if from < 0 {
			t.Errorf("%s stands on no floor", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			for _, f := range noFUSE {
				if name == f && strings.HasPrefix(imp, "github.com/hanwen/go-fuse") {
					t.Errorf("%s imports FUSE", p.ImportPath)
				}
			}
			to, other := floorOf(imp)
			if to < 0 || other == name {
				continue
			}
			if to <= from {
				t.Errorf("%s imports %s, which does not stand below it", p.ImportPath, imp)
			}
			if allowed, limited := alone[name]; limited && !slices.Contains(allowed, other) {
				t.Errorf("%s imports %s; of the project it may import %v only", p.ImportPath, imp, allowed)
			}
		}
	}
	if seen < len(floors) {
		t.Fatalf("only %d packages found", seen)
	}
}
