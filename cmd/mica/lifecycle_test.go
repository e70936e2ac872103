package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestLifeCycle(t *testing.T) {
	c := newCLI(t)
	c.remove("life")
	id := c.ok("run", "-d", "--name", "life", "-l", "team=blue", "base", "sh", "-c", "echo started; trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done")
	if len(id) != 64 {
		t.Fatalf("run -d prints %q", id)
	}
	status := func() string { return c.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "life") }
	if got := status(); got != "running 0" {
		t.Errorf("status %q", got)
	}
	if got := c.ok("ps", "-q", "--no-trunc", "--filter", "label=team=blue"); got != id {
		t.Errorf("ps shows %q", got)
	}
	c.fails(125, "is in use", "run", "--name", "life", "base", "true")
	c.fails(125, "is running", "rm", "life")
	if got := c.ok("exec", "-e", "X=1", "-w", "/srv", "-u", "web", "life", "sh", "-c", "echo $X $PWD $(id -u)"); got != "1 /srv 33" {
		t.Errorf("exec prints %q", got)
	}
	if r := c.run("exec", "life", "sh", "-c", "exit 9"); r.code != 9 {
		t.Errorf("exec ends with %d", r.code)
	}
	c.fails(127, "nothing", "exec", "life", "/bin/nothing")
	until(t, "the first line of the log", func() bool { return c.ok("logs", "life") == "started" })
	c.ok("stop", "-t", "30", "life")
	if got := status(); got != "exited 3" {
		t.Errorf("after stop: %q", got)
	}
	if got := c.ok("logs", "--tail", "1", "life"); got != "bye" {
		t.Errorf("log ends with %q", got)
	}
	if got := c.ok("wait", "life"); got != "3" {
		t.Errorf("wait prints %q", got)
	}
	c.fails(125, "not running", "exec", "life", "true")
	c.fails(125, "not running", "kill", "life")
	c.ok("start", "life")
	c.ok("kill", "life")
	if got := status(); got != "exited 137" {
		t.Errorf("after kill: %q", got)
	}
	c.ok("restart", "life")
	if got := status(); got != "running 0" {
		t.Errorf("after restart: %q", got)
	}
	c.ok("rename", "life", "life2")
	c.remove("life2")
	c.fails(125, "no such container", "inspect", "--type", "container", "life")
	c.ok("rm", "-f", "life2")
	c.fails(125, "no such container", "rm", "life2")
}

func TestCreateStartAttached(t *testing.T) {
	c := newCLI(t)
	c.remove("later")
	c.ok("create", "-i", "--name", "later", "base", "sh", "-c", "read x; echo got $x; exit 4")
	if got := c.ok("ps", "-a", "--filter", "name=later", "--format", "{{.State}} {{.Status}}"); got != "created Created" {
		t.Errorf("ps shows %q", got)
	}
	for range 2 {
		r := c.runInput("word\n", "start", "-ai", "later")
		if r.stdout != "got word\n" || r.code != 4 {
			t.Errorf("%+v", r)
		}
	}
}

// What a container has written is there when it starts again, also when its
// supervisor was killed.
func TestDeadSupervisor(t *testing.T) {
	c := newCLI(t)
	c.remove("dead")
	c.ok("run", "-d", "--name", "dead", "base", "sh", "-c", "cat /kept 2>/dev/null; echo kept > /kept; while :; do sleep 0.05; done")
	until(t, "the file", func() bool { return c.run("exec", "dead", "cat", "/kept").code == 0 })
	killSupervisor(t, c, "dead")
	until(t, "the container to be seen as dead", func() bool { return c.ok("ps", "-a", "--filter", "name=dead", "--format", "{{.State}}") == "dead" })
	if out := c.ok("wait", "dead"); out != "137" {
		t.Errorf("its exit code is %s, want that of a killed process", out)
	}
	c.fails(125, "not running", "exec", "dead", "true")
	c.ok("start", "dead")
	until(t, "what the first run wrote", func() bool { return c.ok("logs", "dead") == "kept" })
}

// One that was to be removed is, by whoever comes next.
func TestDeadSupervisorWithRm(t *testing.T) {
	c := newCLI(t)
	c.ok("run", "-d", "--rm", "--name", "dead-rm", "base", "sleep", "1000")
	dir := filepath.Join(c.root, "containers", c.ok("inspect", "-f", "{{.Id}}", "dead-rm"))
	killSupervisor(t, c, "dead-rm")
	until(t, "the container to be removed", func() bool { return c.ok("ps", "-aq", "--filter", "name=dead-rm") == "" })
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("its directory: %v", err)
	}
}

// TestCheckAfterKill: what a killed supervisor leaves of its container's files
// is found by a check of the store, and repaired.
func TestCheckAfterKill(t *testing.T) {
	c := newCLI(t)
	c.remove("busy")
	c.ok("run", "-d", "--name", "busy", "base", "sh", "-c",
		"cd /lower; i=0; while :; do i=$((i+1)); echo $i >>file; ln file link$i; mv link$i moved; rm moved; echo $i >/tmp/count; done")
	dir := filepath.Join("containers", c.ok("inspect", "-f", "{{.Id}}", "busy"))
	upper := filepath.Join(c.root, dir, "upper")
	until(t, "changes", func() bool { _, err := os.Stat(filepath.Join(upper, "tmp/count")); return err == nil })
	killSupervisor(t, c, "busy")
	until(t, "the container to be dead", func() bool { return c.ok("inspect", "-f", "{{.State.Running}}", "busy") == "false" })
	name := filepath.Join(dir, "work", "maps", "stray")
	stray := filepath.Join(c.root, name)
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	what := name + ": no file has this block map"
	if r := c.run("system", "check"); r.code != 1 || !strings.Contains(r.stdout, what+"\n") {
		t.Errorf("check: %+v", r)
	}
	if r := c.run("system", "check", "--repair"); r.code != 0 || !strings.Contains(r.stdout, what+" (repaired)\n") {
		t.Errorf("repair: %+v", r)
	}
	if r := c.run("system", "check"); r.code != 0 || strings.Contains(r.stdout, dir) {
		t.Errorf("check after the repair: %+v", r)
	}
	if _, err := os.Stat(stray); err == nil {
		t.Error("the block map is still there")
	}
	c.ok("start", "busy")
	if got := c.ok("exec", "busy", "cat", "/lower/file"); !strings.Contains(got, "1\n2\n") {
		t.Errorf("what was written before the kill: %.100q", got)
	}
}

// TestStartOfAll starts what a stop of the machine has ended and a restart policy is to keep up.
func TestStartOfAll(t *testing.T) {
	c := newCLI(t)
	boot := func(cmd ...string) string {
		return c.ok(append(cmd, "--filter", "label=of=boot", "--filter", "should-start-on-boot=true")...)
	}
	for name, policy := range map[string]string{"boot-1": "always", "boot-2": "unless-stopped", "boot-3": "no"} {
		c.remove(name)
		c.ok("run", "-d", "--name", name, "-l", "of=boot", "--restart", policy, "base", "sleep", "1000")
		if name == "boot-2" {
			signalSupervisor(t, c, name, syscall.SIGTERM) // as the service manager does
		} else {
			signalSupervisor(t, c, name, syscall.SIGKILL)
		}
		until(t, name+" to end", func() bool { return c.ok("inspect", "-f", "{{.State.Running}}", name) == "false" })
	}
	if got := c.ok("ps", "-q", "--no-trunc", "--filter", "name=boot-1", "--filter", "status=exited", "--filter", "exited=137"); got != c.ok("inspect", "-f", "{{.Id}}", "boot-1") {
		t.Errorf("those that have ended: %q", got)
	}
	if got := c.ok("inspect", "-f", "{{.State.FinishedAt}}", "boot-1"); strings.HasPrefix(got, "0001") {
		t.Errorf("it ended at %s", got)
	}
	if got := c.ok("ps", "-aq", "--no-trunc", "--filter", "label=of=boot", "--filter", "restart-policy=always"); got != c.ok("inspect", "-f", "{{.Id}}", "boot-1") {
		t.Errorf("those with the policy: %q", got)
	}
	if got := strings.Count(boot("start", "--all"), "\n"); got != 1 {
		t.Errorf("%d are started beside the first", got)
	}
	if got := c.ok("ps", "--filter", "label=of=boot", "--format", "{{.Names}}"); got != "boot-1\nboot-2" && got != "boot-2\nboot-1" {
		t.Errorf("after the start %q run", got)
	}
	if got := c.ok("stop", "-t0", "--filter", "label=of=boot"); strings.Count(got, "\n") != 1 {
		t.Errorf("stopped: %q", got)
	}
	if got := boot("ps", "-a", "--format", "{{.Names}}"); got != "boot-1" {
		t.Errorf("what the user has stopped: %q", got)
	}
	c.ok("rm", "-a", "--filter", "label=of=boot")
	if got := c.ok("ps", "-aq", "--filter", "label=of=boot"); got != "" {
		t.Errorf("after the removal: %q", got)
	}
	c.fails(125, "one argument given", "stop", "--all", "x")
}

func killSupervisor(t *testing.T, c *cli, name string) {
	t.Helper()
	signalSupervisor(t, c, name, syscall.SIGKILL)
}

func signalSupervisor(t *testing.T, c *cli, name string, sig syscall.Signal) {
	t.Helper()
	id := c.ok("inspect", "-f", "{{.Id}}", name)
	data, err := os.ReadFile(filepath.Join(c.root, "containers", id, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	var state struct{ Supervisor int }
	if err := json.Unmarshal(data, &state); err != nil || state.Supervisor <= 1 {
		t.Fatalf("supervisor %d, %v", state.Supervisor, err)
	}
	if err := syscall.Kill(state.Supervisor, sig); err != nil {
		t.Fatal(err)
	}
}

// TestRemoveStopped: that its supervisor stands still keeps no container.
func TestRemoveStopped(t *testing.T) {
	c := newCLI(t)
	c.ok("run", "-d", "--name", "stopped", "base", "sleep", "300")
	signalSupervisor(t, c, "stopped", syscall.SIGSTOP)
	c.ok("rm", "-f", "stopped")
}

func TestRestartPolicy(t *testing.T) {
	c := newCLI(t)
	c.remove("again")
	r := c.run("run", "--name", "again", "--restart", "on-failure:2", "base", "sh", "-c", "echo run; exit 5")
	if r.stdout != "run\nrun\nrun\n" || r.code != 5 {
		t.Errorf("%+v", r)
	}
	if got := c.ok("inspect", "-f", "{{.RestartCount}}", "again"); got != "2" {
		t.Errorf("restart count %s", got)
	}
	c.remove("always")
	c.ok("run", "-d", "--name", "always", "--restart", "always", "base", "true")
	until(t, "a restart", func() bool {
		n, err := strconv.Atoi(c.ok("inspect", "-f", "{{.RestartCount}}", "always"))
		return err == nil && n > 0
	})
	c.ok("stop", "always")
	if got := c.ok("inspect", "-f", "{{.State.Status}}", "always"); got != "exited" {
		t.Errorf("after stop: %s", got)
	}
}

func TestHealth(t *testing.T) {
	c := newCLI(t)
	c.remove("well")
	c.ok("run", "-d", "--name", "well", "--health-cmd", "test -e /ill && exit 1 || exit 0", "--health-interval", "50ms", "--health-retries", "2", "base", "sleep", "1000")
	health := func() string { return c.ok("inspect", "-f", "{{.State.Health.Status}}", "well") }
	until(t, "health", func() bool { return health() == "healthy" })
	if got := c.ok("ps", "--filter", "name=well", "--format", "{{.Status}}"); !strings.HasSuffix(got, "(healthy)") {
		t.Errorf("ps shows %q", got)
	}
	c.ok("exec", "well", "touch", "/ill")
	until(t, "illness", func() bool { return health() == "unhealthy" })
}

// TestSelections: what commands take instead of names.
func TestSelections(t *testing.T) {
	c := newCLI(t)
	c.root = t.TempDir() // in which there is nothing else
	t.Cleanup(func() { c.run("rm", "-f", "--all") })
	c.fails(125, "there is no container", "start", "--latest")
	c.ok("run", "-d", "--name", "first", "host", "sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")
	c.ok("run", "-d", "--name", "second", "host", "sleep", "1000")
	states := func() string {
		return c.ok("ps", "-a", "--format", "{{.Names}} {{.State}}")
	}
	for _, step := range []struct{ line, want string }{
		{"pause --all", "second paused\nfirst paused"},
		{"pause --all", "second paused\nfirst paused"},
		{"unpause -a", "second running\nfirst running"},
		{"unpause --all", "second running\nfirst running"},
		{"pause --latest", "second paused\nfirst running"},
		{"unpause -l", "second running\nfirst running"},
		{"stop -t 0 --ignore missing second", "second exited\nfirst running"},
		{"stop -i missing", "second exited\nfirst running"},
		{"restart -t 0 --all", "second running\nfirst running"},
		{"stop -t 0 -l", "second exited\nfirst running"},
		{"rm --ignore missing second", "first running"},
		{"rm --time 60 first", ""}, // which ends before
		{"rm -f --ignore first", ""},
	} {
		c.ok(strings.Fields(step.line)...)
		if got := states(); got != step.want {
			t.Errorf("after %s: %q, want %q", step.line, got, step.want)
		}
	}
	c.ok("run", "-d", "--name", "third", "host", "sh", "-c", "echo words; exec sleep 1000")
	for line, want := range map[string]string{
		"exec -l echo a": "a", "exec --latest -- echo -l": "-l", "logs -l": "words", "port -l": "", "top -l pid": "", "inspect -l -f {{.Name}}": "/third",
		"container inspect --latest -f {{.Name}}": "/third", "diff -l": "",
	} {
		until(t, "what "+line+" shows", func() bool { return strings.HasPrefix(c.ok(strings.Fields(line)...), want) })
	}
	for _, line := range []string{"exec -l", "stop missing", "rm missing", "rm --latest --all", "pause", "restart --all first", "rm -l first"} {
		if r := c.run(strings.Fields(line)...); r.code == 0 {
			t.Errorf("%s: no error", line)
		}
	}
}

// TestWaitConditions: one more end is waited for, and that nothing is left.
func TestWaitConditions(t *testing.T) {
	c := newCLI(t)
	c.remove("awaited")
	c.ok("create", "--name", "awaited", "base", "sh", "-c", "sleep 1; exit 4") // while it runs, one that looks late sees the next exit too
	for range 2 {
		next := make(chan string)
		go func() { next <- c.run("wait", "--condition", "next-exit", "awaited").stdout }()
		select {
		case got := <-next:
			t.Fatalf("it waited for nothing: %q", got)
		case <-time.After(200 * time.Millisecond):
		}
		c.ok("start", "awaited")
		if got := <-next; got != "4\n" {
			t.Errorf("the next exit: %q", got)
		}
	}
	if got := c.ok("wait", "--condition", "not-running", "awaited"); got != "4" {
		t.Errorf("of one that does not run: %q", got)
	}
	id := c.ok("run", "-d", "--rm", "base", "sh", "-c", "sleep 0.2; exit 5")
	if got := c.ok("wait", "--condition", "removed", id); got != "5" || c.run("inspect", id).code == 0 {
		t.Errorf("waited for the removal: %q", got)
	}
	for _, condition := range []string{"next-exit", "removed"} {
		id := c.ok("create", "--rm", "base", "sh", "-c", "sleep 1; exit 7")
		end := make(chan string)
		go func() { end <- c.run("wait", "--condition", condition, id).stdout }()
		c.ok("start", id)
		if got := <-end; got != "7\n" {
			t.Errorf("--condition %s of one that is not started yet: %q", condition, got)
		}
	}
}

func TestSignals(t *testing.T) {
	c := newCLI(t)
	for _, test := range []struct {
		name    string
		sig     syscall.Signal
		ignored bool // as by a shell for a background job
	}{{"USR1", syscall.SIGUSR1, false}, {"INT", syscall.SIGINT, true}} {
		name := "sig-" + test.name
		c.remove(name)
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		cmd := c.command(ctx, "run", "--name", name, "base", "sh", "-c", "trap 'echo got it; exit 7' "+test.name+"; echo ready; while :; do sleep 0.05; done")
		if test.ignored {
			cmd.Args = append([]string{"sh", "-c", `trap "" ` + test.name + `; exec "$0" "$@"`, cmd.Path}, cmd.Args[1:]...)
			cmd.Path = "/bin/sh"
		}
		var out strings.Builder
		var mu sync.Mutex
		cmd.Stdout = writerFunc(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return out.Write(p)
		})
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := func() string {
			mu.Lock()
			defer mu.Unlock()
			return out.String()
		}
		until(t, "the trap", func() bool { return strings.Contains(said(), "ready") })
		if err := cmd.Process.Signal(test.sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 7 || said() != "ready\ngot it\n" {
			t.Errorf("%s: exit code %d, output %q", test.name, code, said())
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Fifty containers of one image at once, each with its own changes.
func TestManyAtOnce(t *testing.T) {
	c := newCLI(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			want := fmt.Sprint("mine ", i)
			r := c.run("run", "--rm", "base", "sh", "-c", "echo "+want+" >> /lower/file; cat /lower/file")
			if r.stdout != "lower\n"+want+"\n" || r.code != 0 {
				t.Errorf("container %d: %+v", i, r)
			}
		})
	}
	wg.Wait()
}

func TestMuchOutput(t *testing.T) {
	c := newCLI(t)
	r := c.run("run", "--rm", "base", "sh", "-c", "head -c 20000000 /dev/zero; echo end >&2")
	if len(r.stdout) != 20_000_000 || r.stderr != "end\n" || r.code != 0 {
		t.Errorf("%d bytes, %q, exit code %d", len(r.stdout), r.stderr, r.code)
	}
	in := strings.Repeat("0123456789abcde\n", 200_000)
	if r := c.runInput(in, "run", "--rm", "-i", "base", "cat"); r.stdout != in {
		t.Errorf("%d bytes of %d came back", len(r.stdout), len(in))
	}
	// Input that nobody reads does not stop the container.
	if r := c.runInput(in, "run", "--rm", "-i", "base", "true"); r.code != 0 {
		t.Errorf("%+v", r)
	}
}

// TestDescriptorsOfTheCaller: what outlives a command does not keep open what its caller had open.
func TestDescriptorsOfTheCaller(t *testing.T) {
	c := newCLI(t)
	c.remove("outlives")
	cmd := c.command(t.Context(), "run", "-d", "--name", "outlives", "base", "sleep", "1000")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.ExtraFiles = slices.Repeat([]*os.File{w}, 10)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the pipe does not end: %v", err)
	}
}

// TestStopTimeouts: what is no number of seconds is refused, and is no stop.
func TestStopTimeouts(t *testing.T) {
	c := newCLI(t)
	for _, timeout := range []string{"inf", "nan", "-inf"} {
		c.fails(125, "want seconds", "stop", "-t", timeout, "whatever")
		c.fails(125, "want seconds", "restart", "--timeout="+timeout, "whatever")
	}
}

// TestInterruptedSave: what a signal ends leaves nothing half-written, and tells so by its exit code.
func TestInterruptedSave(t *testing.T) {
	c := newCLI(t)
	c.remove("saved")
	c.ok("run", "--name", "saved", "base", "sh", "-c", "head -c 300000000 /dev/urandom > /data")
	c.ok("commit", "saved", "large")
	defer c.ok("rmi", "large")
	dir := t.TempDir()
	cmd := c.command(t.Context(), "save", "-o", filepath.Join(dir, "large.tar"), "large")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the archive to begin", func() bool {
		left, err := os.ReadDir(dir)
		return err == nil && len(left) > 0
	})
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("ended with %v", cmd.ProcessState)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestStats tells what a container takes.
func TestStats(t *testing.T) {
	c := newCLI(t)
	c.remove("busy-1")
	c.remove("busy-2")
	c.ok("run", "-d", "--name", "busy-1", "--network", "none", "base", "sh", "-c", "while :; do :; done")
	c.ok("create", "--name", "busy-2", "base", "true")
	got := strings.Split(c.ok("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.NetIO}} {{.CPUPerc}}", "busy-1", "busy-2"), "\n")
	var cpu float64
	if _, err := fmt.Sscanf(got[0], "busy-1 1 0B / 0B %f%%", &cpu); err != nil || cpu < 1 || len(got) != 2 || got[1] != "busy-2 -- -- / -- --" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestUpdate changes the restart policy of a container that runs.
func TestUpdate(t *testing.T) {
	c := newCLI(t)
	c.remove("updated")
	c.ok("run", "-d", "--name", "updated", "--restart", "always", "base", "sh", "-c", "while ! test -e /go; do sleep 0.02; done; exit 3")
	c.ok("update", "--restart", "no", "updated")
	c.run("exec", "updated", "touch", "/go") // may end with the container
	if got := c.ok("wait", "updated"); got != "3" {
		t.Errorf("it ends with %s", got)
	}
	if got := c.ok("inspect", "-f", "{{.State.Status}} {{.RestartCount}} {{.HostConfig.RestartPolicy.Name}}", "updated"); got != "exited 0 no" {
		t.Errorf("%s", got)
	}
	c.fails(125, "nothing to change", "update", "updated")
}

// TestKilledCreate: what a client that is killed while it makes a container leaves behind is no damage, and soon gone.
func TestKilledCreate(t *testing.T) {
	c := &cli{t: t, root: filepath.Join(t.TempDir(), "store")}
	base := newCLI(t)
	archive := filepath.Join(t.TempDir(), "base.tar")
	base.ok("save", "-o", archive, "base")
	c.ok("load", "-i", archive)
	for i := range 20 {
		cmd := c.command(t.Context(), "create", "--name", "killed", "base", "true")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * time.Millisecond) // a moment of its work, whichever
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		c.run("rm", "-f", "killed")
		c.ok("system", "check")
	}
	until(t, "the name", func() bool { return c.run("create", "--name", "killed", "base", "true").code == 0 })
	c.ok("rm", "killed")
	until(t, "the leftovers to go", func() bool {
		c.ok("ps")
		left, err := filepath.Glob(filepath.Join(c.root, "containers", ".new-*"))
		return err == nil && len(left) == 0
	})
}

// TestWaitForRun: the end of a run counts, though a policy starts the container again.
func TestWaitForRun(t *testing.T) {
	c := newCLI(t)
	c.remove("again-and-again")
	c.ok("run", "-d", "--name", "again-and-again", "--restart", "always", "base", "sh", "-c", "sleep 0.3; exit 4")
	for range 2 {
		if got := c.ok("wait", "again-and-again"); got != "4" {
			t.Errorf("wait: %q", got)
		}
	}
	c.ok("kill", "again-and-again")
	if got := c.ok("wait", "again-and-again"); got == "" {
		t.Error("wait says nothing of a container that was killed")
	}
	c.ok("rm", "again-and-again")
}
