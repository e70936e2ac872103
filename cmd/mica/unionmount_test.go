package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestImageMount shows the tree of an image in a container of another.
func TestImageMount(t *testing.T) {
	c := newCLI(t)
	c.remove("imager")
	c.remove("owned")
	c.ok("run", "--name", "owned", "base", "sh", "-c", "mkdir -p /data/in; echo found > /data/in/file; chown 33:33 /data/in/file")
	c.ok("commit", "owned", "shown")
	got := c.ok("run", "--name", "imager", "--mount", "type=image,source=shown,target=/mnt/image", "base", "sh", "-c",
		"stat -c %u /mnt/image/data/in/file; touch /mnt/image/x 2>/dev/null || echo read-only; ls -d /data 2>/dev/null; true")
	if got != "33\nread-only" {
		t.Errorf("the mount shows %q", got)
	}
	r := c.run("rmi", "shown")
	if r.code == 0 || !strings.Contains(r.stderr, "in use") {
		t.Errorf("the image of a mount was removed: %+v", r)
	}
	for _, part := range []struct{ sub, cmd, want string }{
		{"data/in", "ls /mnt/p", "file"}, {"data/in/file", "cat /mnt/p", "found"}, {"/data", "ls /mnt/p/in; touch /mnt/p/y && ls /mnt/p/y", "file\n/mnt/p/y"},
	} {
		if got := c.ok("run", "--rm", "--mount", "type=image,source=shown,target=/mnt/p,rw,subpath="+part.sub, "base", "sh", "-c", part.cmd); got != part.want {
			t.Errorf("%s: %q", part.sub, got)
		}
	}
	c.fails(125, "no such image", "run", "--rm", "--mount", "type=image,source=nosuch,target=/mnt/p", "base", "true")
	if r := c.run("run", "--rm", "--mount", "type=image,source=shown,target=/mnt/p,subpath=none", "base", "true"); r.code != 125 || !strings.Contains(r.stderr, "none") {
		t.Errorf("a part that is not there: %+v", r)
	}
	c.ok("start", "-a", "imager")
	c.ok("rm", "imager", "owned")
	c.ok("rmi", "shown")
}

// TestOverlayMount puts a layer over a directory of the host, which stays as it is.
func TestOverlayMount(t *testing.T) {
	c := newCLI(t)
	c.remove("over")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("a\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got := c.ok("run", "--name", "over", "-v", dir+":/mnt/over:O", "base", "sh", "-c", "cd /mnt/over; ls; echo more >> a; echo b > b; cat a; mv a c; ls")
	if got != "a\na\nmore\nb\nc" {
		t.Errorf("the container sees %q", got)
	}
	if got := c.ok("start", "-a", "over"); got != "a\na\nmore\nb\nc" {
		t.Errorf("the next run sees %q", got)
	}
	data, err := os.ReadFile(filepath.Join(dir, "a"))
	entries, _ := os.ReadDir(dir)
	if err != nil || string(data) != "a\n" || len(entries) != 1 {
		t.Errorf("the directory has changed: %q, %v, %v", data, entries, err)
	}
	if left, _ := filepath.Glob(filepath.Join(c.root, "containers", c.ok("inspect", "-f", "{{.Id}}", "over"), "unions", "*")); len(left) > 0 {
		t.Errorf("what a run has written stays: %q", left)
	}
	c.fails(125, "for a directory", "run", "--rm", "-v", filepath.Join(dir, "a")+":/mnt/f:O", "base", "true")
	c.fails(125, "for a directory", "run", "--rm", "-v", "named:/mnt/f:O", "base", "true")
	c.fails(125, "exclude each other", "run", "--rm", "-v", dir+":/mnt/f:O,ro", "base", "true")
}

// TestOverlayMountShut: a directory that the container has made read-only in such a layer goes with it, as does one that a run
// without a supervisor has left.
func TestOverlayMountShut(t *testing.T) {
	c := newCLI(t)
	c.remove("shut")
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "lower", "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	got := c.ok("run", "--name", "shut", "-v", dir+":/mnt/over:O", "base", "sh", "-c",
		"cd /mnt/over; mkdir -p a/b && touch a/b/c lower/in/x && chmod 555 a/b a lower/in lower && ls a/b lower/in")
	if got != "a/b:\nc\n\nlower/in:\nx" {
		t.Errorf("the container sees %q", got)
	}
	unions := filepath.Join(c.root, "containers", c.ok("inspect", "-f", "{{.Id}}", "shut"), "unions")
	if _, err := os.Lstat(unions); err == nil {
		t.Error("the layer stays")
	}
	left := filepath.Join(unions, "0", "upper", "left")
	if err := os.MkdirAll(filepath.Join(left, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(left, 0); err != nil {
		t.Fatal(err)
	}
	c.ok("start", "-a", "shut")
	if err := os.MkdirAll(filepath.Join(left, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(left, 0); err != nil {
		t.Fatal(err)
	}
	c.ok("rm", "shut")
	if _, err := os.Lstat(filepath.Dir(unions)); err == nil {
		t.Error("the container stays")
	}
	if gone, _ := filepath.Glob(filepath.Join(c.root, "containers", ".gone-*")); len(gone) > 0 {
		t.Errorf("parts of it stay: %q", gone)
	}
}

// TestOverlayOverStore: the store does not show, and a directory above it cannot be renamed, which would copy it into itself.
func TestOverlayOverStore(t *testing.T) {
	c := newCLI(t)
	above := filepath.Dir(c.root)
	r := c.run("run", "--rm", "-v", filepath.Dir(above)+":/mnt/up:O", "base", "sh", "-c", "cd /mnt/up && ls -A "+filepath.Base(above)+"/"+filepath.Base(c.root)+"; mv "+filepath.Base(above)+" moved")
	if r.code == 0 || !strings.Contains(r.stderr, "busy") || r.stdout != "" {
		t.Errorf("the store is in reach: %+v", r)
	}
}
