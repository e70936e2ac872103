package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountServer gives the process that serves a mount.
func mountServer(t *testing.T, c *cli, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(c.root, "mounts", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var m struct {
			Dir string `json:"dir"`
			PID int    `json:"pid"`
		}
		data, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(data, &m) == nil && m.Dir == dir {
			return m.PID
		}
	}
	t.Fatalf("no mount on %s is recorded", dir)
	return 0
}

// A mount shows the image, takes no changes, and goes when told to.
func TestMount(t *testing.T) {
	c := newCLI(t)
	dir := t.TempDir()
	t.Cleanup(func() { c.run("umount", dir) })
	if got := c.ok("mount", "base", dir); got != dir {
		t.Errorf("mount prints %q, want %q", got, dir)
	}
	inside := c.ok("run", "--rm", "base", "cat", "/lower/file")
	outside, err := os.ReadFile(filepath.Join(dir, "lower/file"))
	if err != nil || strings.TrimSuffix(string(outside), "\n") != inside {
		t.Errorf("the mount shows %q (%v), a container %q", outside, err, inside)
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o644); err == nil {
		t.Error("a mount of an image takes changes")
	}
	if list := c.ok("mount"); !strings.Contains(list, dir) {
		t.Errorf("the list of mounts lacks %s:\n%s", dir, list)
	}
	c.fails(exitOurs, "is mounted there", "mount", "base", dir)
	c.ok("umount", dir)
	if _, err := os.Stat(filepath.Join(dir, "lower")); err == nil {
		t.Error("the mount is still there after umount")
	}
	c.fails(exitOurs, "nothing is mounted", "umount", dir)
}

// What a mount for writing takes in belongs to root in a new container.
func TestMountForWriting(t *testing.T) {
	c := newCLI(t)
	dir := t.TempDir()
	c.remove("written")
	t.Cleanup(func() { c.run("umount", dir) })
	c.ok("mount", "--rw", "--name", "written", "base", dir)
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte("outside\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.fails(exitOurs, "stop it first", "mount", "--rw", "written", t.TempDir())
	c.remove("renamed")
	c.ok("rename", "written", "renamed") // it is the same one
	c.fails(exitOurs, "mounted for writing", "start", "renamed")
	c.ok("umount", "renamed")
	if got := c.ok("diff", "renamed"); got != "A /new" {
		t.Errorf("diff shows %q", got)
	}
}

// A mount of a container shows what the container does of files that are
// partly in its image, and so does the container of what the mount changed.
func TestMountOfPartlyCopiedFile(t *testing.T) {
	c := newCLI(t)
	dir := t.TempDir()
	c.remove("large")
	c.remove("partly")
	t.Cleanup(func() {
		c.run("umount", dir)
		c.run("rmi", "-f", "with-large")
	})
	c.ok("run", "--name", "large", "base", "dd", "if=/dev/urandom", "of=/large", "bs=1000", "count=400")
	c.ok("commit", "large", "with-large")
	content := func(args ...string) []byte {
		t.Helper()
		r := c.run(args...)
		if r.code != 0 || len(r.stdout) != 400_000 {
			t.Fatalf("mica %s: exit code %d, %d bytes: %s", strings.Join(args, " "), r.code, len(r.stdout), r.stderr)
		}
		return []byte(r.stdout)
	}
	want := content("run", "--name", "partly", "with-large", "sh", "-c",
		"echo changed | dd of=/large conv=notrunc bs=1 seek=200000 2>/dev/null && cat /large")
	c.ok("mount", "partly", dir)
	if outside, err := os.ReadFile(filepath.Join(dir, "large")); err != nil || !bytes.Equal(outside, want) {
		t.Errorf("the mount shows other content than the container: %v", err)
	}
	c.ok("umount", dir)
	c.ok("mount", "--rw", "partly", dir)
	f, err := os.OpenFile(filepath.Join(dir, "large"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("outside"), 300_000)
	if cerr := f.Close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
	c.ok("umount", dir)
	copy(want[300_000:], "outside")
	c.ok("commit", "partly", "with-large")
	if inside := content("run", "--rm", "with-large", "cat", "/large"); !bytes.Equal(inside, want) {
		t.Error("the container shows other content than the mount left")
	}
}

// A mount whose server was killed is cleared away by the next command that
// meets it, although the kernel may still answer for it from its cache.
func TestDeadMount(t *testing.T) {
	c := newCLI(t)
	dir := t.TempDir()
	t.Cleanup(func() { c.run("umount", dir) })
	c.ok("mount", "base", dir)
	if _, err := os.ReadDir(dir); err != nil {
		t.Fatal(err)
	}
	pid := mountServer(t, c, dir)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the server to end", func() bool {
		state, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(state), ") Z ") // where nobody reaps orphans
	})
	c.ok("mount", "base", dir)
	if _, err := os.Stat(filepath.Join(dir, "lower/file")); err != nil {
		t.Errorf("after a mount over a dead one: %v", err)
	}
	c.ok("umount", dir)
}

// Where others can write, a directory that was made for us is no place for a
// mountpoint.
func TestMountInDirectoryOfOthers(t *testing.T) {
	c := newCLI(t)
	tmp, elsewhere := t.TempDir(), t.TempDir()
	c.env = append(c.env, "TMPDIR="+tmp, "XDG_RUNTIME_DIR=")
	own := filepath.Join(tmp, fmt.Sprintf("mica-%d", os.Getuid()))
	if err := os.Symlink(elsewhere, own); err != nil {
		t.Fatal(err)
	}
	c.fails(exitOurs, "only you can write to", "mount", "base")
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(own, 0o777); err != nil {
		t.Fatal(err)
	}
	c.fails(exitOurs, "only you can write to", "mount", "base")
	if err := os.Chmod(own, 0o755); err != nil {
		t.Fatal(err)
	}
	dir := c.ok("mount", "base")
	t.Cleanup(func() { c.run("umount", dir) })
	if !strings.HasPrefix(dir, own) {
		t.Errorf("mounted on %s, want a place in %s", dir, own)
	}
	c.ok("umount", dir)
}
