package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"mica/internal/format"
)

// What -o names is written as a shell's redirection would write it.
func TestOutputFiles(t *testing.T) {
	c := newCLI(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	isTar := func(path string) {
		t.Helper()
		if out, err := exec.Command("tar", "-tf", path).CombinedOutput(); err != nil || !strings.Contains(string(out), "index.json") {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
	}
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, at(name)); err != nil {
			t.Fatal(err)
		}
	}

	write(t, at("old"), "old")
	if err := os.Chmod(at("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	link("old", "link")
	link("link", "link2")
	c.ok("save", "-o", at("link2"), "base")
	isTar(at("old"))
	if st, err := os.Stat(at("old")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the replaced file: %v %v", st, err)
	}
	if to, err := os.Readlink(at("link2")); err != nil || to != "link" {
		t.Errorf("the symlink is gone: %q %v", to, err)
	}
	link("fresh", "dangling")
	c.ok("save", "-o", at("dangling"), "base")
	isTar(at("fresh"))

	if err := syscall.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	reader := exec.Command("sh", "-c", `exec cat "$0" > "$1"`, at("fifo"), at("read"))
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	c.ok("save", "-o", at("fifo"), "base")
	if err := reader.Wait(); err != nil {
		t.Fatal(err)
	}
	isTar(at("read"))
	if st, err := os.Lstat(at("fifo")); err != nil || st.Mode().Type() != os.ModeNamedPipe {
		t.Errorf("the pipe is gone: %v %v", st, err)
	}
	c.ok("save", "-o", "/dev/null", "base")
	r := c.run("save", "-o", "/dev/stdout", "base")
	write(t, at("stdout"), r.stdout)
	isTar(at("stdout"))

	link("/dev/full", "full")
	c.fails(125, at("full")+": no space left on device", "save", "-o", at("full"), "base")
	c.fails(125, dir, "save", "-o", dir, "base")
	c.fails(125, at("none/x")+": no such file", "save", "-o", at("none/x"), "base")
	if left, _ := filepath.Glob(at("*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}

	c.remove("export")
	c.ok("create", "--name", "export", "base", "true")
	c.ok("export", "-o", "/dev/null", "export")
	c.fails(125, "/dev/full: no space left on device", "export", "-o", "/dev/full", "export")
}

// What cannot be printed is an error of one line.
func TestFullStdout(t *testing.T) {
	c := newCLI(t)
	c.remove("unseen")
	c.ok("create", "--name", "unseen", "base", "true")
	for _, line := range []string{"ps -a", "images", "images -q", "history base", "inspect base", "info", "version", "--help", "port --help",
		"diff unseen", "volume ls", "system df", "system check", "export unseen", "save base", "cp unseen:/srv -"} {
		if line == "diff unseen" {
			c.ok("cp", "/dev/null", "unseen:/srv/new")
		}
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		cmd := c.command(t.Context(), strings.Fields(line)...)
		var errs strings.Builder
		cmd.Stdout, cmd.Stderr = full, &errs
		err = cmd.Run()
		full.Close()
		said := errs.String()
		if cmd.ProcessState.ExitCode() != 125 || strings.Count(said, "\n") != 1 || !strings.Contains(said, "standard output: no space left on device") {
			t.Errorf("%s: %v, %q", line, err, said)
		}
	}
}

// A name in a container is shown, not obeyed, by a terminal; a pipe gets its bytes.
func TestDiffOnTerminal(t *testing.T) {
	for in, want := range map[string]string{"/a b/é": "/a b/é", "/\x1b[2J\n": `/\x1b[2J\n`, "/\xff\u202e": `/\xff\u202e`} {
		if got := format.Printable(in); got != want {
			t.Errorf("%q is shown as %s, want %s", in, got, want)
		}
	}
	c := newCLI(t)
	c.remove("rude")
	c.ok("run", "--name", "rude", "base", "sh", "-c", `touch "/srv/$(printf 'x\033[2J')"`)
	if got := c.ok("diff", "rude"); !strings.Contains(got, "A /srv/x\x1b[2J") {
		t.Errorf("diff prints %q", got)
	}
	tt := c.terminal(24, 80, "diff", "rude")
	tt.expect(`A /srv/x\x1b[2J`)
	if code := tt.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// An image's words make no rows of their own in a table, and command no terminal; a pipe gets what a template prints.
func TestTablesShowControls(t *testing.T) {
	c := newCLI(t)
	tar := filepath.Join(shared.dir, "base.tar")
	const message = "ok\n\x1b[2Jforged\trow \u009bé"
	const spelled = `ok\n\x1b[2Jforged\trow \u009bé`
	c.ok("import", "-m", message, "-c", `LABEL note="a\x1bb"`, tar, "rude:1")
	t.Cleanup(func() { c.run("rmi", "-f", "rude:1") })
	if out := c.ok("history", "rude:1"); !strings.HasSuffix(out, spelled) || strings.Count(out, "\n") != 1 {
		t.Errorf("history: %q", out)
	}
	for _, format := range []string{"table {{.ID}}\t{{.Comment}}", "table {{if .ID}}{{with .Comment}}{{.}}{{end}}{{else}}{{.ID}}{{end}}"} {
		if out := c.ok("history", "--format", format, "rude:1"); !strings.HasSuffix(out, spelled) {
			t.Errorf("%s: %q", format, out)
		}
	}
	if out := c.ok("history", "--format", "{{.Comment}}", "rude:1"); out != message {
		t.Errorf("a pipe gets %q", out)
	}
	tt := c.terminal(24, 200, "history", "--format", "{{.Comment}}", "rude:1")
	tt.expect(`\x1b[2Jforged	row \u009bé`)
	if code := tt.code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// Messages speak of what the user gave, not of the program.
func TestPlainMessages(t *testing.T) {
	c := newCLI(t)
	c.fails(125, `invalid argument "x" for "-t, --timeout" flag: want a number`, "stop", "-t", "x", "none")
	c.fails(125, "want true or false", "ps", "--all=x")
	c.fails(125, "there is no field Nope", "inspect", "-f", "{{.Nope}}", "base")
}

// TestSuggestion: the names that are proposed for one that there is not are set in by a tab, and nothing is spelt out that
// need not be.
func TestSuggestion(t *testing.T) {
	r := newCLI(t).run("plugin")
	if r.code != 125 || !strings.Contains(r.stderr, "\n\tlogin\n") || strings.Contains(r.stderr, `\t`) {
		t.Errorf("exit code %d, %q", r.code, r.stderr)
	}
}
