package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// treeWorkloads make and remove whole trees.
func treeWorkloads() []Workload {
	untar := func(e *env) (int, error) {
		if err := pipe(e, nil, "tar", "-xf", filepath.Join(e.fix.dir, "source.tar"), "--no-same-owner", "-C", e.path("new")); err != nil {
			return 0, err
		}
		return e.t.Scale.SourceFiles, nil
	}
	makeNew := func(e *env) error {
		if err := os.Mkdir(e.path("new"), 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		return nil
	}
	remove := func(name string) func(*env) (int, error) {
		return func(e *env) (int, error) { return e.t.Scale.SourceFiles, pipe(e, nil, "rm", "-rf", name) }
	}
	gone := func(name string) func(*env) (string, error) {
		return func(e *env) (string, error) {
			if _, err := os.Lstat(e.path(name)); !errors.Is(err, os.ErrNotExist) {
				return "", fmt.Errorf("look for what was removed: %w", errors.Join(errors.New("it is still there"), err))
			}
			return listRoot(e)
		}
	}
	tar, rm := []Tool{{"tar", "tar"}}, []Tool{{"rm", "coreutils"}}
	all := []Workload{
		{Name: "untar", About: "tar x of a source tree; an operation is one file", Needs: tar, prepare: makeNew, pass: untar,
			answer: func(e *env) (string, error) { return treeSum(e.path("new")) }},
		{Name: "rm-upper", About: "rm -rf of a new tree; an operation is one file", Needs: append(tar, rm...), pass: remove("new"), answer: gone("new"),
			prepare: func(e *env) error {
				if err := makeNew(e); err != nil {
					return err
				}
				_, err := untar(e)
				return err
			}},
		{Name: "rm-lower", About: "rm -rf of a lower tree; an operation is one file", Needs: rm, pass: remove("tree"), answer: gone("tree")},
	}
	for i := range all {
		w := &all[i]
		w.Group, w.Fixture, w.Mutates, w.Once, w.Quick = "trees", "source", true, true, true
	}
	return all
}

// listRoot is the names at the top of the tree.
func listRoot(e *env) (string, error) {
	top, err := os.ReadDir(e.root)
	if err != nil {
		return "", fmt.Errorf("list root: %w", err)
	}
	answer := fmt.Sprintf("%d names:", len(top))
	for _, d := range top {
		answer += " " + d.Name()
	}
	return answer, nil
}
