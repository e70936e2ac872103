package main

import (
	"context"
	"strings"
	"testing"
)

// TestInputOfKilledClient: input ends with the client that it comes from, though nobody has said so.
func TestInputOfKilledClient(t *testing.T) {
	c := newCLI(t)
	c.remove("fed")
	c.remove("exec-fed")
	c.ok("run", "-d", "--name", "exec-fed", "base", "sleep", "300")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for name, args := range map[string][]string{"fed": {"run", "-i", "--name", "fed", "base", "cat"}, "exec-fed": {"exec", "-i", "exec-fed", "cat"}} {
		cmd := c.command(ctx, args...)
		input, err := cmd.StdinPipe() // stays open
		if err != nil {
			t.Fatal(err)
		}
		defer input.Close()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		reads := func() bool { return strings.Contains(c.run("top", name).stdout, "cat") }
		until(t, "cat in "+name, reads)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		until(t, "the end of cat in "+name, func() bool { return !reads() })
	}
}

// TestInputOfRestarted: what a process leaves of its input is there for the next one, and so is its end.
func TestInputOfRestarted(t *testing.T) {
	c := newCLI(t)
	c.remove("again")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := c.command(ctx, "run", "-i", "--name", "again", "--restart", "on-failure:2", "base", "sh", "-c", "echo start; head -c 6; echo; exit 1")
	cmd.Stdin = endless{}
	out, err := cmd.Output()
	if want := strings.Repeat("start\nyyyyyy\n", 3); string(out) != want {
		t.Errorf("%q, want %q; %v", out, want, err)
	}
	c.remove("ended")
	if r := c.runInput("input", "run", "-i", "--name", "ended", "--restart", "on-failure:1", "base", "sh", "-c", "cat; echo end; exit 1"); r.stdout != "inputend\nend\n" {
		t.Errorf("%q, %s", r.stdout, r.stderr)
	}
}

// endless is a reader of letters.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'y'
	}
	return len(p), nil
}
