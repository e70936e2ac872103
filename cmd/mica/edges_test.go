package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What happens when two things come together: a stop and a restart, an end and a reader, a signal and a start.

// TestStopDuringRestart stops containers that are just being started again by their policy: none runs on.
func TestStopDuringRestart(t *testing.T) {
	c := newCLI(t)
	for i := range 12 {
		dir, name := t.TempDir(), fmt.Sprint("restarted-", i)
		c.remove(name)
		c.ok("run", "-d", "--name", name, "--restart", "always", "-v", dir+":/v", "base", "sh", "-c", "test -e /v/a && exec sleep 300; touch /v/a; exit 1")
		time.Sleep(time.Duration(100+5*i) * time.Millisecond) // the pause before the restart is 100 ms
		c.ok("stop", "-t", "0", name)
		if out := c.ok("ps", "-a", "--filter", "name="+name, "--format", "{{.State}}"); out != "exited" {
			t.Errorf("after a stop %d ms after the start it is %s", 100+5*i, out)
		}
	}
}

// TestKillBetweenRestarts ends a container that waits to be started again.
func TestKillBetweenRestarts(t *testing.T) {
	c := newCLI(t)
	c.remove("looping")
	c.ok("run", "-d", "--name", "looping", "--restart", "always", "base", "false")
	until(t, "a longer pause", func() bool {
		return c.ok("inspect", "-f", "{{.State.Status}} {{ge .RestartCount 4}}", "looping") == "restarting true"
	})
	c.ok("kill", "looping")
	if out := c.ok("ps", "-a", "--filter", "name=looping", "--format", "{{.Status}}"); !strings.HasPrefix(out, "Exited (1)") {
		t.Errorf("after the kill: %s", out)
	}
}

// TestRestartOfRemoved: a container that is removed when it ends is not when it is restarted.
func TestRestartOfRemoved(t *testing.T) {
	c := newCLI(t)
	c.remove("once")
	c.ok("run", "-d", "--rm", "--name", "once", "base", "sh", "-c", "test -e /there && echo again; echo > /there; exec sleep 300")
	until(t, "the file", func() bool { return c.run("exec", "once", "sh", "-c", "test -e /there").code == 0 })
	c.ok("restart", "-t", "0", "once")
	until(t, "the second start", func() bool { return strings.Contains(c.ok("logs", "once"), "again") })
	c.ok("stop", "-t", "0", "once")
	until(t, "the removal", func() bool { return c.ok("ps", "-aq", "--filter", "name=once") == "" })
}

// TestRestartGivenUp: a container that is removed when it ends is, when nobody is left who would start it again. It is killed
// in time all the same.
func TestRestartGivenUp(t *testing.T) {
	c := newCLI(t)
	c.remove("stubborn")
	c.ok("run", "-d", "--rm", "--name", "stubborn", "base", "sh", "-c", "trap 'echo asked' TERM; echo ready; while :; do sleep 0.1; done")
	until(t, "its trap", func() bool { return c.ok("logs", "stubborn") == "ready" })
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := c.command(ctx, "restart", "-t", "2", "stubborn")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the signal", func() bool { return strings.Contains(c.run("logs", "stubborn").stdout, "asked") })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	until(t, "the removal", func() bool { return c.ok("ps", "-aq", "--filter", "name=stubborn") == "" })
}

// TestLogsOfRemoved follows the log of a container that is removed when it ends, to its last byte.
func TestLogsOfRemoved(t *testing.T) {
	c := newCLI(t)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for i := range 6 {
		name := fmt.Sprint("short-", i)
		c.ok("run", "-d", "--rm", "--log-opt", "max-size=200", "--log-opt", "max-file=4", "--name", name, "base", "sh", "-c", "echo ready; while ! test -e /go; do sleep 0.02; done; seq 1 8; printf rest")
		cmd := c.command(ctx, "logs", "-f", name)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(pipe)
		if first, err := r.ReadString('\n'); first != "ready\n" {
			t.Fatalf("%q, %v", first, err)
		}
		c.run("exec", name, "sh", "-c", "echo > /go") // may end with the container
		rest, err := io.ReadAll(r)
		if want := "1\n2\n3\n4\n5\n6\n7\n8\nrest"; err != nil || string(rest) != want {
			t.Errorf("%q, %v", rest, err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
}

// TestExecLeavesWriter: a command that leaves another one behind, which writes on for ever, has ended all the same, and all
// that it wrote itself is there.
func TestExecLeavesWriter(t *testing.T) {
	c := newCLI(t)
	c.remove("busy")
	c.ok("run", "-d", "--name", "busy", "base", "sleep", "300")
	r := c.run("exec", "busy", "sh", "-c", "(while :; do echo tick; sleep 0.02; done) & seq 1 3000; exit 5")
	if r.code != 5 || !strings.Contains(r.stdout, "\n3000\n") {
		t.Errorf("exit code %d, %d bytes", r.code, len(r.stdout))
	}
}

// TestHealthLeavesWriter is the same for a health check.
func TestHealthLeavesWriter(t *testing.T) {
	c := newCLI(t)
	c.remove("checked")
	c.ok("run", "-d", "--name", "checked", "--health-cmd", "(while :; do echo x; sleep 0.02; done) & true", "--health-interval", "100ms", "base", "sleep", "300")
	until(t, "a healthy container", func() bool { return c.ok("inspect", "-f", "{{.State.Health.Status}}", "checked") == "healthy" })
}

// TestExecWithMuch passes arguments and variables of nearly as much as Linux takes.
func TestExecWithMuch(t *testing.T) {
	c := newCLI(t)
	c.remove("much")
	c.ok("run", "-d", "--name", "much", "base", "sleep", "300")
	args := []string{"exec", "much", "sh", "-c", `echo $#`, "sh"}
	for range 1500 {
		args = append(args, strings.Repeat("x", 1000))
	}
	if out := c.ok(args...); out != "1500" {
		t.Errorf("%s arguments arrived", out)
	}
}

// TestExecWhenItEnds: what runs beside the main process ends with it, and says so as a killed process does.
func TestExecWhenItEnds(t *testing.T) {
	c := newCLI(t)
	c.remove("ending")
	c.ok("run", "-d", "--name", "ending", "base", "sleep", "300")
	done := make(chan result, 1)
	go func() { done <- c.run("exec", "ending", "sh", "-c", "echo > /there; sleep 300") }()
	until(t, "the command", func() bool { return c.run("exec", "ending", "sh", "-c", "test -e /there").code == 0 })
	c.ok("stop", "-t", "0", "ending")
	if r := <-done; r.code != 137 || r.stderr != "" {
		t.Errorf("exit code %d, %q", r.code, r.stderr)
	}
}

// TestRemoveWhatEnds removes containers that are just ending, and lists others meanwhile.
func TestRemoveWhatEnds(t *testing.T) {
	c := newCLI(t)
	for i := range 30 {
		name := fmt.Sprint("brief-", i)
		c.ok("run", "-d", "--name", name, "base", "true")
		c.ok("rm", "-f", name)
		c.ok("run", "-d", "--rm", "base", "true")
		c.ok("ps", "-a")
	}
	if out := c.ok("ps", "-aq", "--filter", "name=^brief-"); out != "" {
		t.Errorf("left: %s", out)
	}
}

// TestStartAttachedToRunning attaches to a container that runs already.
func TestStartAttachedToRunning(t *testing.T) {
	c := newCLI(t)
	c.remove("talks")
	c.ok("run", "-d", "--name", "talks", "base", "sh", "-c", "while ! test -e /go; do sleep 0.05; done; echo heard; exit 3")
	done := make(chan result, 1)
	go func() { done <- c.run("start", "-a", "talks") }()
	time.Sleep(100 * time.Millisecond)               // either way it must end with the container
	c.run("exec", "talks", "sh", "-c", "echo > /go") // it may be killed with the container, which ends for it
	if r := <-done; r.code != 3 {
		t.Errorf("exit code %d, %q, %q", r.code, r.stdout, r.stderr)
	}
}

// TestInputStays: the input of a container that was started in the background outlives its clients.
func TestInputStays(t *testing.T) {
	c := newCLI(t)
	c.remove("echoes")
	c.ok("run", "-d", "-i", "--name", "echoes", "base", "cat")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for _, word := range []string{"one", "two"} {
		cmd := c.command(ctx, "attach", "echoes")
		cmd.Stdin = strings.NewReader(word + "\n")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until(t, word, func() bool { return strings.HasSuffix(c.ok("logs", "echoes"), word) })
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// TestStopAtOnce stops containers that do not listen side by side.
func TestStopAtOnce(t *testing.T) {
	c := newCLI(t)
	args := []string{"stop", "-t", "2"}
	for i := range 8 {
		name := fmt.Sprint("deaf-", i)
		c.remove(name)
		c.ok("run", "-d", "--name", name, "base", "sh", "-c", "trap '' TERM; echo > /deaf; while :; do sleep 0.1; done")
		until(t, "the trap", func() bool { return c.run("exec", name, "sh", "-c", "test -e /deaf").code == 0 })
		args = append(args, name)
	}
	began := time.Now()
	c.ok(args...)
	if took := time.Since(began); took > 12*time.Second { // one after the other they take 16
		t.Errorf("took %v", took)
	}
}

// TestNameOfRenamedGoes: a container that was renamed while it ran, and is removed when it ends, takes its name along.
func TestNameOfRenamedGoes(t *testing.T) {
	c := newCLI(t)
	c.ok("run", "-d", "--rm", "--name", "before", "base", "sleep", "300")
	c.ok("rename", "before", "after-it")
	c.ok("stop", "-t", "0", "after-it")
	if _, err := os.Lstat(filepath.Join(c.root, "containers", "names", "after-it")); err == nil {
		t.Error("the name is still there")
	}
}

// TestAnonymousVolumesOfKilled: they go with a container that is to be removed when it ends, also if its supervisor is
// killed.
func TestAnonymousVolumesOfKilled(t *testing.T) {
	c := newCLI(t)
	c.ok("run", "-d", "--rm", "--name", "killed-volume", "-v", "/anon", "base", "sleep", "300")
	volume := c.ok("inspect", "-f", "{{(index .Mounts 0).Name}}", "killed-volume")
	killSupervisor(t, c, "killed-volume")
	until(t, "the removal", func() bool { return c.ok("ps", "-aq", "--filter", "name=killed-volume") == "" })
	if out := c.ok("volume", "ls", "-q"); strings.Contains(out, volume) {
		t.Error("the volume stays")
	}
}

// TestTerminalIsRestored: a client on a terminal that is told to end leaves the terminal as it was.
func TestTerminalIsRestored(t *testing.T) {
	c := newCLI(t)
	c.remove("raw")
	tt := c.terminal(24, 80, "run", "-it", "--name", "raw", "base", "sh", "-c", "echo ready; exec sleep 300")
	tt.expect("ready")
	lines := func() bool {
		s, err := unix.IoctlGetTermios(int(tt.pty.Fd()), unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return s.Lflag&unix.ICANON != 0
	}
	if lines() {
		t.Fatal("the terminal is not raw")
	}
	if err := tt.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := tt.code(); code != 143 {
		t.Errorf("exit code %d", code)
	}
	if !lines() {
		t.Error("the terminal stays raw")
	}
	if out := c.ok("ps", "--filter", "name=raw", "--format", "{{.Names}}"); out != "raw" {
		t.Errorf("the container has ended, too: %q", out)
	}
}

// TestSignalDuringStart: a client that is told to end while it starts a container leaves none that runs on.
func TestSignalDuringStart(t *testing.T) {
	c := newCLI(t)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for i := range 20 {
		name := "early-" + strconv.Itoa(i)
		cmd := c.command(ctx, "run", "--rm", "--name", name, "base", "sleep", "300")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(10+2*i) * time.Millisecond) // until then nothing is caught yet, or all is
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		until(t, "the end", func() bool { return c.ok("ps", "-aq", "--filter", "name="+name) == "" })
	}
}

// TestPause stops the processes of a container and lets them go on; signals wake it.
func TestPause(t *testing.T) {
	c := newCLI(t)
	c.remove("paused")
	c.ok("run", "-d", "--name", "paused", "base", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.02; done")
	count := func() string {
		out := c.run("cp", "paused:/count", "-").stdout
		return strings.TrimRight(out[min(512, len(out)):], "\x00\n")
	}
	state := func() string {
		return c.ok("inspect", "-f", "{{.State.Status}} {{.State.Paused}} {{.State.Running}}", "paused")
	}
	until(t, "the first count", func() bool { return count() != "" })
	c.fails(125, "is not paused", "unpause", "paused")
	c.ok("pause", "paused")
	if got := state(); got != "paused true true" {
		t.Errorf("%s", got)
	}
	if out := c.ok("ps", "--filter", "status=paused", "--format", "{{.Names}} {{.Status}}"); !strings.HasPrefix(out, "paused Up ") || !strings.HasSuffix(out, " (Paused)") {
		t.Errorf("ps: %q", out)
	}
	c.fails(125, "paused already", "pause", "paused")
	c.fails(125, "mica unpause", "exec", "paused", "true")
	before := count()
	c.ok("commit", "paused", "paused")
	c.ok("rmi", "paused")
	time.Sleep(100 * time.Millisecond)
	if after := count(); after != before {
		t.Errorf("it counted from %s to %s", before, after)
	}
	c.ok("unpause", "paused")
	until(t, "another count", func() bool { return count() != before })
	c.ok("pause", "paused")
	c.ok("stop", "-t", "5", "paused")
	if got := state(); !strings.HasPrefix(got, "exited false false") {
		t.Errorf("%s", got)
	}
}

// TestReplace makes a container in the place of one that runs.
func TestReplace(t *testing.T) {
	c := newCLI(t)
	c.remove("replaced")
	first := c.ok("run", "-d", "--name", "replaced", "base", "sleep", "300")
	second := c.ok("run", "-d", "--replace", "--name", "replaced", "base", "sleep", "300")
	if out := c.ok("ps", "-aq", "--no-trunc", "--filter", "name=^replaced$"); out != second || first == second {
		t.Errorf("there is %s, after %s and %s", out, first, second)
	}
}

// TestDamagedContainer: what a container uses whose configuration is lost stays until somebody removes the container.
func TestDamagedContainer(t *testing.T) {
	c := &cli{t: t, root: filepath.Join(t.TempDir(), "store")}
	newCLI(t) // for the executable and the test root
	c.ok("import", filepath.Join(shared.dir, "base.tar"), "base")
	id := c.ok("create", "--name", "damaged", "-v", "precious:/d", "base", "true")
	c.ok("create", "--name", "whole", "base", "true")
	if err := os.Truncate(filepath.Join(c.root, "containers", id, "config.json"), 10); err != nil {
		t.Fatal(err)
	}
	if out := c.ok("ps", "-a", "--filter", "name=damaged", "--format", "{{.Names}} {{.State}}"); out != "damaged dead" {
		t.Errorf("%q", out)
	}
	if out := c.ok("inspect", "-f", "{{.Name}} {{.State.Error}}", "damaged"); !strings.Contains(out, "config.json is damaged") {
		t.Errorf("%q", out)
	}
	for _, line := range []string{"volume prune -af", "image prune -af", "rmi base", "start damaged", "rename damaged other", "commit damaged", "volume rm precious"} {
		c.fails(125, "damaged", strings.Fields(line)...)
	}
	c.ok("container", "prune", "-f")
	if out := c.ok("ps", "-aq", "--no-trunc"); out != id {
		t.Errorf("after the prune there is %s", out)
	}
	c.ok("rm", "damaged")
	c.ok("volume", "prune", "-af")
	c.ok("rmi", "base")
}

// TestOutputWithoutReader: a container whose output cannot be written is stopped, and removed with --rm.
func TestOutputWithoutReader(t *testing.T) {
	c := newCLI(t)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	script := "echo y; while :; do echo y; sleep 0.02; done"
	pipe := c.command(ctx, "run", "--rm", "--name", "unread", "base", "sh", "-c", script)
	r, err := pipe.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pipe.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	_ = pipe.Wait()
	c.remove("full")
	full := c.command(ctx, "run", "--name", "full", "base", "sh", "-c", script)
	if full.Stdout, err = os.OpenFile("/dev/full", os.O_WRONLY, 0); err != nil {
		t.Fatal(err)
	}
	_ = full.Run()
	if pipe.ProcessState.ExitCode() != exitOurs || full.ProcessState.ExitCode() != exitOurs {
		t.Errorf("they end with %v and %v", pipe.ProcessState, full.ProcessState)
	}
	if out := c.ok("ps", "-a", "--filter", "name=unread", "--filter", "name=full", "--format", "{{.Names}} {{.State}}"); out != "full exited" {
		t.Errorf("ps shows %q", out)
	}
}
