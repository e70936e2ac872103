package main

import (
	"strings"
	"testing"
)

// TestPruneAsksThroughPipes: what comes through a pipe answers as a terminal would, and nothing at all is a no.
func TestPruneAsksThroughPipes(t *testing.T) {
	c := newCLI(t)
	name := "pruned-by-pipe"
	prune := []string{"volume", "prune", "-a", "--filter", "label=" + name}
	for _, step := range []struct {
		input string
		goes  bool
	}{{"", false}, {"n\n", false}, {"y\n", true}, {"Yes", true}} {
		c.ok("volume", "create", "--label", name, name)
		r := c.runInput(step.input, prune...)
		left := c.run("volume", "inspect", name).code == 0
		if (r.code == 0) != step.goes || left == step.goes || !strings.Contains(r.stderr, "[y/N]") {
			t.Errorf("%q: exit code %d, %q; the volume is left: %v", step.input, r.code, r.stderr, left)
		}
	}
	c.run("volume", "rm", "-f", name)
}
