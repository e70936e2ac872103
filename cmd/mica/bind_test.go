package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlantedSymlink: what a container puts in the place of something that it has mounted elsewhere too leads nobody out, not
// at its next start nor in copies. The user's own symlinks are followed once, when it is made.
func TestPlantedSymlink(t *testing.T) {
	c := newCLI(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.MkdirAll(at("project/sub"), 0o755), os.Mkdir(at("host"), 0o755), os.Symlink("project", at("link")),
		os.WriteFile(at("host/secret"), []byte("secret"), 0o644), os.WriteFile(at("project/sub/own"), []byte("own"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c.remove("planter")
	c.ok("create", "--name", "planter", "--restart", "on-failure:1", "-v", at("project")+":/p", "-v", at("link/sub")+":/s", "base", "sh", "-c",
		"cat /s/*; rm -r /p/sub; ln -s "+at("host")+" /p/sub; exit 1")
	c.ok("start", "planter")
	until(t, "its end", func() bool { return c.ok("inspect", "-f", "{{.State.Status}}", "planter") == "exited" })
	if got := c.ok("logs", "planter"); got != "own" {
		t.Errorf("the log is %q", got)
	}
	if got := c.ok("inspect", "-f", "{{.State.Error}}", "planter"); !strings.Contains(got, "a symlink is there now") {
		t.Errorf("it ended with %q", got)
	}
	c.fails(125, "a symlink is there now", "start", "planter")
	c.fails(125, "a symlink is there now", "cp", "planter:/s/secret", at("copy"))
	if err := os.WriteFile(at("new"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c.fails(125, "a symlink is there now", "cp", at("new"), "planter:/s/")
	for _, name := range []string{"copy", "host/new"} {
		if _, err := os.Lstat(at(name)); err == nil {
			t.Errorf("there is %s", name)
		}
	}
}
