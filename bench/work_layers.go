package bench

import (
	"fmt"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// layerWorkloads look the same tree up through more and more layers.
func layerWorkloads() []Workload {
	var all []Workload
	for _, n := range []int{1, 10, 100, 500} {
		s := strconv.Itoa(n)
		all = append(all,
			Workload{Name: "mount-" + s, Group: "layers", About: "mount of " + s + " layers and a first stat", Fixture: "layers-" + s,
				Once: true, Quick: n <= 100, MountOnly: true, prepare: (*env).unmount, pass: passMount, answer: foundAnswer},
			Workload{Name: "lookup-" + s, Group: "layers", About: "stat of every file in " + s + " layers, after the first of its directory", Fixture: "layers-" + s,
				Once: true, Quick: n <= 100, prepare: lookFirst, pass: passStat, answer: foundAnswer})
	}
	return all
}

func passMount(e *env) (int, error) {
	if err := e.mount(); err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Lstat(e.path("d00"), &st); err != nil {
		return 0, fmt.Errorf("stat: %w", err)
	}
	e.found = fmt.Sprintf("mode %o", st.Mode)
	return 1, nil
}

// lookFirst touches one file of every directory and leaves the others to the pass.
func lookFirst(e *env) error {
	if err := listNames(e); err != nil {
		return err
	}
	e.dirs = nil
	seen := map[string]bool{}
	rest := e.files[:0]
	var st unix.Stat_t
	for _, p := range e.files {
		if d := filepath.Dir(p); !seen[d] {
			seen[d] = true
			if err := unix.Lstat(p, &st); err != nil {
				return fmt.Errorf("stat %s: %w", p, err)
			}
			continue
		}
		rest = append(rest, p)
	}
	e.files = rest
	return nil
}
