package main

import (
	"context"
	"io"
	"syscall"
	"testing"
)

// A client that stops reading holds up neither the end of the container nor its removal,
// and gets all of the output when it reads on.
func TestStalledClient(t *testing.T) {
	c := newCLI(t)
	c.remove("stall")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := c.command(ctx, "run", "--name", "stall", "base", "sh", "-c", "head -c 3000000 /dev/zero; touch /written; sleep 1000")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the container", func() bool { return c.run("exec", "stall", "true").code == 0 })
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c.ok("kill", "stall")
	if got := c.ok("inspect", "-f", "{{.State.Status}}", "stall"); got != "exited" {
		t.Errorf("with a stalled client: %s", got)
	}
	c.ok("rm", "stall")
	if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, out); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 137 {
		t.Errorf("exit code %d", code)
	}
}

// All that a container has written arrives, however late it is read.
func TestLateReader(t *testing.T) {
	c := newCLI(t)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := c.command(ctx, "run", "--rm", "--name", "late", "base", "head", "-c", "600000", "/dev/zero")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the end of the container", func() bool { return c.ok("ps", "-aq", "--filter", "name=late") == "" })
	n, err := io.Copy(io.Discard, out)
	if err != nil || n != 600_000 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
