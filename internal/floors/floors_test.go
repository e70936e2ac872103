// Package floors holds the test that packages import only downwards.
package floors

import (
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// floors lists the packages from the top of the house down. A package imports
// from floors below its own, and from subpackages of its own.
var floors = []string{
	"mica/cmd/mica",
	"mica/run",
	"mica/run/sandbox",
	"mica/bench",
	"mica/fs",
	"mica/layerstore",
	"mica/cow",
	"mica/whiteout",
	"mica/internal",
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

// floorOf is the index of the floor with the longest matching name, -1 for
// what is not the project's.
func floorOf(pkg string) int {
	best := -1
	for i, f := range floors {
		if (pkg == f || strings.HasPrefix(pkg, f+"/")) && (best < 0 || len(f) > len(floors[best])) {
			best = i
		}
	}
	return best
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
		from := floorOf(p.ImportPath)
		if from < 0 {
			t.Errorf("%s stands on no floor", p.ImportPath)
			continue
		}
		for _, imp := range p.Imports {
			for _, f := range noFUSE {
				if floors[from] == f && strings.HasPrefix(imp, "github.com/hanwen/go-fuse") {
					t.Errorf("%s imports FUSE", p.ImportPath)
				}
			}
			to := floorOf(imp)
			if to < 0 || to == from {
				continue
			}
			if to < from {
				t.Errorf("%s imports %s, which stands above it", p.ImportPath, imp)
			}
			if allowed, limited := alone[floors[from]]; limited && !contains(allowed, floors[to]) {
				t.Errorf("%s imports %s; of the project it may import %v only", p.ImportPath, imp, allowed)
			}
		}
	}
	if seen < len(floors) {
		t.Fatalf("only %d packages found", seen)
	}
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
