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
	c.fails(125, "for a directory", "run", "--rm", "-v", filepath.Join(dir, "a")+":/mnt/f:O", "base", "true")
	c.fails(125, "for a directory", "run", "--rm", "-v", "named:/mnt/f:O", "base", "true")
	c.fails(125, "exclude each other", "run", "--rm", "-v", dir+":/mnt/f:O,ro", "base", "true")
}
