package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// newHome makes a home directory with some files.
func newHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	makeHome(t, home, "mkdir -p docs/old .config; echo one > docs/one; echo two > docs/two; echo x > docs/old/x; ln docs/one docs/linked; chmod 600 docs/two; mkdir shut; echo s > shut/s; chmod 500 shut")
	t.Cleanup(func() { makeHome(t, home, "chmod -R u+w .") })
	return home
}

func makeHome(t *testing.T, home, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = home
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// listing describes every file below a directory: type, mode, link count, path, and content or target.
func listing(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", `find . -printf '%y %m %P %l\n' | sort -k3; find . -type f -printf '%n %P: ' -exec cat {} \; | sort`)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("list %s: %v\n%s", dir, err, out)
	}
	return string(out)
}

// TestHomeModes walks what a container sees of its home directory and what it leaves there.
func TestHomeModes(t *testing.T) {
	for _, tc := range []struct{ image, mode, sees, leaves string }{
		{"base", "private", "", ""},
		{"base", "shared", "docs\nshut", "made"},
		{"base", "cow", "docs\nshut", ""},
		{"host", "private", "", ""},
		{"host", "shared", "docs\nshut", "made"},
		{"host", "cow", "docs\nshut", ""},
	} {
		t.Run(tc.image+" "+tc.mode, func(t *testing.T) {
			c := newCLI(t)
			home := newHome(t)
			c.env = noDesktop(home)
			for name, extra := range map[string][]string{"own id": nil, "one id": {"--userns", "single"}} {
				args := append([]string{"run", "--rm", "--home", tc.mode}, extra...)
				args = append(args, tc.image, "sh", "-c", "pwd; echo $HOME; id -u; ls; touch made; stat -c %u made")
				uid := os.Getuid()
				if extra != nil {
					uid = 0
				}
				want := strings.ReplaceAll(fmt.Sprintf("%s\n%s\n%d\n%s\n%d", home, home, uid, tc.sees, uid), "\n\n", "\n")
				if out := c.ok(args...); out != want {
					t.Errorf("%s: got %q, want %q", name, out, want)
				}
				err := os.Remove(filepath.Join(home, "made"))
				if left := err == nil; left != (tc.leaves != "") {
					t.Errorf("%s: file left in the real home directory: %v", name, left)
				}
			}
		})
	}
}

// edits are changes of every kind to what newHome makes.
const edits = `cd $HOME; echo more >> docs/one; rm docs/two; rm -r docs/old; mkdir docs/old; echo n > docs/old/new; mkdir -p new/deep; echo a > new/a
ln new/a new/deep/b; ln -s a new/link; mkfifo new/fifo; mv docs/old moved; chmod 750 docs; touch -d 2001-02-03 new/a; chmod 500 new/deep
chmod 700 shut; echo t > shut/s; chmod 500 shut; rm -r .config; echo file > .config`

// What a container has done to a copy-on-write home directory is shown, and
// applied it gives what the same commands give on the directory itself.
func TestHomeApply(t *testing.T) {
	c := newCLI(t)
	home, plain := newHome(t), newHome(t)
	before := listing(t, home)
	c.env = noDesktop(home)
	c.ok("run", "--name", "apply", "--home", "cow", "host", "sh", "-ec", edits)
	c.remove("apply")
	if now := listing(t, home); now != before {
		t.Fatalf("the home directory has changed:\n%s", now)
	}
	diff := c.ok("diff", "--home", "apply")
	for _, line := range []string{"C /docs/one", "D /docs/two", "D /docs/old", "A /moved", "A /new/deep/b", "C /.config", "C /shut/s"} {
		if line = line[:2] + home + line[2:]; !strings.Contains(diff+"\n", line+"\n") {
			t.Errorf("diff lacks %q:\n%s", line, diff)
		}
	}
	if out := c.ok("home", "apply", "--dry-run", "apply"); !strings.Contains(out, "deleted in "+home) || listing(t, home) != before {
		t.Errorf("dry run: %s", out)
	}
	if r := c.run("home", "apply", "apply"); r.code != 125 || !strings.Contains(r.stderr, "nothing was written: add -y") || listing(t, home) != before {
		t.Errorf("without an answer: exit code %d, %s", r.code, r.stderr)
	}
	c.ok("home", "apply", "-y", "apply")
	makeHome(t, plain, "HOME=$PWD; "+edits)
	if got, want := listing(t, home), listing(t, plain); got != want {
		t.Errorf("applied:\n%s\nwant\n%s", got, want)
	}
	if out := c.ok("diff", "--home", "apply"); out != "" {
		t.Errorf("still different: %s", out)
	}
	if out := c.ok("home", "apply", "apply"); !strings.Contains(out, "Nothing to write") {
		t.Errorf("%q", out)
	}
}

// TestHomeApplySetID: a set-id file that another user of the container made runs as nobody else for it.
func TestHomeApplySetID(t *testing.T) {
	c := newCLI(t)
	home := newHome(t)
	c.env = noDesktop(home)
	if err := os.Chmod(home, 0o777); err != nil {
		t.Fatal(err)
	}
	c.ok("run", "--name", "set-id", "--user", "0", "--home", "cow", "base", "sh", "-ec", "cp /bin/sh "+home+"/sx; chmod 6755 "+home+"/sx")
	c.remove("set-id")
	c.ok("home", "apply", "-y", "set-id")
	if st, err := os.Stat(filepath.Join(home, "sx")); err != nil || st.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
		t.Errorf("applied as %v, %v", st.Mode(), err)
	}
}

func TestHomeDiscard(t *testing.T) {
	c := newCLI(t)
	home := newHome(t)
	before := listing(t, home)
	c.env = noDesktop(home)
	c.ok("run", "-d", "--name", "discard", "--home", "cow", "base", "sh", "-c", "rm -r docs; echo done > flag; sleep 1000")
	c.remove("discard")
	until(t, "the change", func() bool { return strings.Contains(c.ok("diff", "--home", "discard"), "A "+home+"/flag") })
	c.fails(125, "it is running", "home", "discard", "discard")
	c.fails(125, "it is running", "home", "apply", "-y", "discard")
	c.ok("kill", "discard")
	c.ok("home", "discard", "discard")
	if out := c.ok("diff", "--home", "discard"); out != "" || listing(t, home) != before {
		t.Errorf("left: %s", out)
	}
	c.ok("create", "--name", "no-home", "base", "true")
	c.remove("no-home")
	c.fails(125, "--home cow", "diff", "--home", "no-home")
	c.fails(125, "--home cow", "home", "discard", "no-home")
}

// What the user has changed since is not overwritten.
func TestHomeConflict(t *testing.T) {
	c := newCLI(t)
	home := newHome(t)
	c.env = noDesktop(home)
	c.ok("run", "--name", "conflict", "--home", "cow", "host", "sh", "-ec", "echo theirs > docs/two; rm -r docs/old; echo new > fresh")
	c.remove("conflict")
	for what, change := range map[string]string{
		"edited":  "echo mine >> docs/two",
		"below":   "echo mine > docs/old/y",
		"made":    "echo mine > fresh",
		"renamed": "rm docs/two; echo other > docs/two",
	} {
		makeHome(t, home, change)
		before := listing(t, home)
		refused(c, "home", "apply", "-y", "conflict")
		if now := listing(t, home); now != before {
			t.Errorf("%s: something was written:\n%s", what, now)
		}
	}
	c.ok("home", "apply", "-y", "--force", "conflict")
	if data, err := os.ReadFile(filepath.Join(home, "docs/two")); err != nil || string(data) != "theirs\n" {
		t.Errorf("%q, %v", data, err)
	}
}

// TestHomeConflictWithinRun: what the user changes while the container runs, which may have read it before, is not overwritten
// by what the container makes of it later; and neither is what the container cannot see.
func TestHomeConflictWithinRun(t *testing.T) {
	c := newCLI(t)
	home := newHome(t)
	c.env = noDesktop(home)
	makeHome(t, home, "mkdir hidden; echo x > hidden/.wh.x")
	c.ok("run", "-d", "--name", "within", "--home", "cow", "base", "sh", "-c",
		"old=$(cat docs/one); rm -r hidden; echo > ready; while ! test -e go; do sleep 0.02; done; rm docs/one; echo \"$old more\" > docs/one; echo > done; sleep 300")
	c.remove("within")
	changed := func(name string) func() bool {
		return func() bool { return strings.Contains(c.ok("diff", "--home", "within"), "A "+home+"/"+name) }
	}
	until(t, "the reading", changed("ready"))
	makeHome(t, home, "echo mine >> docs/one")
	c.ok("exec", "within", "sh", "-c", "echo > "+home+"/go")
	until(t, "the writing", changed("done"))
	c.ok("stop", "-t", "0", "within")
	refused(c, "home", "apply", "-y", "within")
	if out := c.run("home", "apply", "--dry-run", "within").stdout; !strings.Contains(out, "2 were changed there since") {
		t.Errorf("both are to be conflicts:\n%s", out)
	}
	if data, err := os.ReadFile(filepath.Join(home, "docs/one")); err != nil || string(data) != "one\nmine\n" {
		t.Errorf("%q, %v", data, err)
	}
}

// storeAtHome has its store, with the image base, in the home directory.
func storeAtHome(t *testing.T) *cli {
	t.Helper()
	home := t.TempDir()
	c := &cli{t: t, root: filepath.Join(home, ".local/share/mica"), env: noDesktop(home)}
	image := filepath.Join(home, "base.tar")
	newCLI(t).ok("save", "-o", image, "base")
	c.ok("load", "-i", image)
	return c
}

// TestHomeStoreStays: a directory with the store in it is not moved, which would copy the store into itself.
func TestHomeStoreStays(t *testing.T) {
	c := storeAtHome(t)
	if out := c.ok("run", "--rm", "--home", "cow", "base", "sh", "-c", "mkdir .local/other; mv .local moved 2>/dev/null; test -d .local/share/mica && mv .local/other gone && echo stays"); out != "stays" {
		t.Errorf("%q", out)
	}
}

// refused runs a command line that shows a summary and then fails because of a conflict.
func refused(c *cli, args ...string) {
	c.t.Helper()
	if r := c.run(args...); r.code != 125 || !strings.Contains(r.stderr, "was changed since the container was started") {
		c.t.Errorf("exit code %d, %q", r.code, r.stderr)
	}
}

// A store in the home directory shows in no container.
func TestHomeHidesStore(t *testing.T) {
	c := storeAtHome(t)
	for _, mode := range []string{"private", "shared", "cow"} {
		for _, image := range []string{"base", "host"} {
			out := c.ok("run", "--rm", "--home", mode, image, "sh", "-c", "ls -A .local/share/mica 2>/dev/null; mkdir -p .local/share/mine && echo writable")
			if out != "writable" {
				t.Errorf("%s, %s: %q", mode, image, out)
			}
		}
	}
}
