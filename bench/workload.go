package bench

import (
	"fmt"
	"os/exec"
	"path"
)

// Kind says what a workload needs to run on.
type Kind int

const (
	// OnMount workloads run in a mounted tree; their peers are filesystems.
	OnMount Kind = iota
	// OnTool workloads run programs on the host; their peers are the variants that they name.
	OnTool
)

// Workload is one thing to measure.
type Workload struct {
	// Name is what the user selects it by; Group is the heading under which it is reported.
	Name, Group string
	// About is one line: what is timed, and what one operation is.
	About string
	// Unit is "s" (time of one pass, the default) or "kB" (memory of the server).
	Unit string
	Kind Kind
	// Fixture names the lower tree; empty for an empty one.
	Fixture string
	// Mutates means that a plain directory needs a copy of the fixture of its own for each sample.
	Mutates bool
	// Cold workloads are measured once, right after the mount; others after a warm-up pass, and repeated when short.
	Cold bool
	// Once workloads change what they measure: one pass, no warm-up.
	Once bool
	// Quick workloads are part of a quick run.
	Quick bool
	// MountOnly workloads measure mounting, ServerOnly ones a server; plain directories, or all without a server, have none.
	MountOnly, ServerOnly bool
	// MaxRuns bounds the repetitions of a very long workload; 0 means no bound.
	MaxRuns int
	// Needs are external programs.
	Needs []Tool

	// prepare makes ready, untimed, in the mounted tree.
	prepare func(*env) error
	// pass is what is timed. It returns the number of operations.
	pass func(*env) (ops int, err error)
	// answer returns, untimed, what the workload must have got or left behind; the same on every peer.
	answer func(*env) (string, error)
	// undo restores a plain directory's fixture, which then needs no copy for each sample.
	undo func(*env) error
	// variants are the peers of an OnTool workload.
	variants []variant
}

// variant is one program's way to do an OnTool workload.
type variant struct {
	peer  string
	needs []Tool
	// setup runs once per sample, untimed; pass is timed; answer is as a workload's; teardown always runs.
	setup    func(*env) error
	pass     func(*env) (int, error)
	answer   func(*env) (string, error)
	teardown func(*env)
}

// Tool is an external program and the Debian package that has it.
type Tool struct{ Program, Package string }

// missing returns the first of the tools that is not in PATH.
func missing(tools []Tool) (Tool, bool) {
	for _, t := range tools {
		if _, err := exec.LookPath(t.Program); err != nil {
			return t, true
		}
	}
	return Tool{}, false
}

func (w *Workload) unit() string {
	if w.Unit == "" {
		return "s"
	}
	return w.Unit
}

// workloads is the table of everything that can be measured, in order.
func workloads() []Workload {
	var all []Workload
	for _, group := range [][]Workload{
		metadataWorkloads(), walkWorkloads(), smallFileWorkloads(), treeWorkloads(), copyUpWorkloads(),
		layerWorkloads(), fioWorkloads(), sqliteWorkloads(), gitWorkloads(), buildWorkloads(),
		memoryWorkloads(), containerWorkloads(),
	} {
		all = append(all, group...)
	}
	return all
}

// findWorkload returns the workload of that exact name.
func findWorkload(name string) (*Workload, error) {
	for _, w := range workloads() {
		if w.Name == name {
			return &w, nil
		}
	}
	return nil, fmt.Errorf("find workload %q: there is none of that name", name)
}

// selectWorkloads returns those of all that match any of the patterns (all of them when there is no pattern) and the
// patterns that match none. A pattern is a name, a glob, or the name of a group.
func selectWorkloads(all []Workload, patterns []string) (chosen []Workload, unmatched []string) {
	if len(patterns) == 0 {
		return all, nil
	}
	used := make([]bool, len(patterns))
	for _, w := range all {
		hit := false
		for i, p := range patterns {
			if ok, err := path.Match(p, w.Name); (err == nil && ok) || p == w.Group {
				used[i], hit = true, true
			}
		}
		if hit {
			chosen = append(chosen, w)
		}
	}
	for i, p := range patterns {
		if !used[i] {
			unmatched = append(unmatched, p)
		}
	}
	return chosen, unmatched
}
