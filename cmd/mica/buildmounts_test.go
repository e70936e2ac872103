package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBuildKilled: the files of a build that was killed go with the next command, whichever that is.
func TestBuildKilled(t *testing.T) {
	c := newCLI(t)
	c.root = filepath.Join(t.TempDir(), "store")
	c.ok("images")
	left := filepath.Join(c.root, "tmp", "build-killed")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "secret-1"), []byte("hush"), 0o400); err != nil {
		t.Fatal(err)
	}
	c.ok("ps", "-a")
	if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its files are left: %v", err)
	}
}

// TestBuildMountPoints: the places of mounts are no change of a step, also where symlinks of the image lead to them.
func TestBuildMountPoints(t *testing.T) {
	c := newCLI(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hush"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := buildContext(t, map[string]string{"Dockerfile": `FROM base
RUN mkdir -p /real/sub && ln -s real /link && ln -s /absent/run /dangling && ln -s ../link/sub /real/in
RUN --mount=type=tmpfs,target=/link/tmp --mount=type=tmpfs,target=/real/in/tmp --mount=type=secret,id=s,target=/dangling/secrets/s \
    --mount=type=bind,source=file,target=/link/file --mount=type=cache,target=/plain/cache \
    grep -q hush /dangling/secrets/s && grep -q content /link/file && touch /link/tmp/x /real/in/tmp/x /plain/cache/x /done
`, "file": "content"})
	id := c.built("-t", "mountpoints", "--secret", "id=s,src="+secret, dir)
	got := c.ok("run", "--rm", id, "sh", "-c", "ls -d /done /absent /plain 2>/dev/null; ls /real /real/sub")
	if want := "/done\n/real:\nin\nsub\n\n/real/sub:"; got != want {
		t.Errorf("the image has %q, want %q", got, want)
	}
	// Nothing is there to follow in an image without a layer.
	dir = buildContext(t, map[string]string{"Dockerfile": "FROM scratch\nRUN --mount=type=tmpfs,target=/x [\"/none\"]\n"})
	if r := c.run("build", dir); r.code != 1 || !strings.Contains(r.stderr, "/none") {
		t.Errorf("without a layer: %+v", r)
	}
}

// TestBuildUmask: whoever a command runs as reaches what is mounted, whatever the umask of the caller.
func TestBuildUmask(t *testing.T) {
	c := newCLI(t)
	dir := buildContext(t, map[string]string{
		"Dockerfile": "FROM base\nUSER 33\nRUN --mount=type=bind,source=file,target=/deep/down/file --mount=type=tmpfs,target=/deep/tmp " +
			"grep content /deep/down/file && touch /deep/tmp/x\n",
		"file": "content",
	})
	mica := c.command(context.Background(), "build", "-q", "--no-cache", dir)
	cmd := exec.Command("sh", slices.Concat([]string{"-c", `umask 077; exec "$0" "$@"`}, mica.Args)...)
	cmd.Env, cmd.Dir = mica.Env, mica.Dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.ok("rmi", "-f", strings.TrimSpace(string(out)))
}
