package main

import (
	"archive/tar"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCopyThroughMounts copies to and from volumes and host paths, with the owners that the container sees, while the
// container runs and when it does not; what the container has put in the way leads nowhere else.
func TestCopyThroughMounts(t *testing.T) {
	c := newCLI(t)
	host := t.TempDir()
	secret := filepath.Join(t.TempDir(), "secret")
	for _, f := range []string{filepath.Join(host, "h"), secret} {
		if err := os.WriteFile(f, []byte("host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.ok("run", "-d", "--name", "copied", "-v", "vol-copied:/data", "-v", host+":/host:ro", "base", "sh", "-c",
		"mkdir -p /data/d && echo in > /data/d/f && chown 33:33 /data/d/f /data/d && chmod 700 /data/d && "+
			"ln -s "+filepath.Dir(secret)+" /data/abs && ln -s ../../../../../../../.."+filepath.Dir(secret)+" /data/rel && ln -s d/f /data/link && touch /data/ready; sleep 1000")
	c.remove("copied")
	c.ok("exec", "copied", "sh", "-c", "while ! test -e /data/ready; do sleep 0.05; done")
	for _, state := range []string{"running", "stopped"} {
		for src, want := range map[string]string{"/data/d/f": "in\n", "/host/h": "host\n"} {
			to := filepath.Join(t.TempDir(), "to")
			c.ok("cp", "copied:"+src, to)
			if got, err := os.ReadFile(to); err != nil || string(got) != want {
				t.Errorf("%s, %s: %q, %v", state, src, got, err)
			}
		}
		out := tarList(t, c.run("cp", "copied:/data/d", "-").stdout)
		if want := []string{"d/ 33:33 700", "d/f 33:33 644"}; !slices.Equal(out[:2], want) {
			t.Errorf("%s: archive of a directory: %q", state, out)
		}
		for _, p := range []string{"/data/abs/secret", "/data/rel/secret"} {
			c.fails(125, "escapes", "cp", "copied:"+p, "-")
			c.fails(125, "escapes", "cp", secret, "copied:"+p)
		}
		c.fails(125, "read-only", "cp", secret, "copied:/host/new")
		c.ok("cp", secret, "copied:/data/d/"+state)
		c.ok("cp", filepath.Dir(secret), "copied:/data/dir-"+state)
		if state == "running" {
			c.ok("stop", "-t", "0", "copied")
		}
	}
	c.ok("start", "copied")
	if out := c.ok("exec", "copied", "sh", "-c", "cd /data; cat d/running d/stopped dir-running/secret dir-stopped/secret; stat -c %u:%g d/running d/f"); out != "host\nhost\nhost\nhost\n0:0\n33:33" {
		t.Errorf("in the volume: %q", out)
	}
	if got, err := os.ReadFile(secret); err != nil || string(got) != "host\n" {
		t.Errorf("the host's file: %q, %v", got, err)
	}
}

// tarList gives "NAME UID:GID MODE" of the entries of an archive.
func tarList(t *testing.T, archive string) []string {
	t.Helper()
	var out []string
	r := tar.NewReader(strings.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %d:%d %o", h.Name, h.Uid, h.Gid, h.Mode))
	}
}
