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

// TestCopyIntoMemory: what would lie under a tmpfs, where the container does not see it, is refused, whether it runs or not.
func TestCopyIntoMemory(t *testing.T) {
	c := newCLI(t)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "f"), "content")
	write(t, filepath.Join(dir, "tree/seen"), "content")
	write(t, filepath.Join(dir, "tree/mem/vol/in"), "content")
	c.ok("run", "-d", "--name", "memory", "--tmpfs", "/srv/mem", "-v", "vol-memory:/srv/mem/vol", "base", "sleep", "1000")
	c.remove("memory")
	for _, state := range []string{"running", "stopped"} {
		for _, to := range []string{"/srv/mem/", "/srv/mem/f", "/srv/../srv/mem"} {
			c.fails(125, "tmpfs", "cp", filepath.Join(dir, "f"), "memory:"+to)
		}
		c.ok("cp", dir+"/tree/.", "memory:/srv")
		write(t, filepath.Join(dir, "tree/mem/f"), "content")
		c.fails(125, "/srv/mem/f in the container: it lies on a tmpfs", "cp", dir+"/tree/.", "memory:/srv")
		if err := os.Remove(filepath.Join(dir, "tree/mem/f")); err != nil {
			t.Fatal(err)
		}
		if out := tarList(t, c.run("cp", "memory:/srv/mem/vol", "-").stdout); len(out) != 2 || !strings.HasPrefix(out[1], "vol/in ") {
			t.Errorf("%s: in the volume: %q", state, out)
		}
		if out := c.ok("diff", "memory"); strings.Contains(out, "/srv/mem/") || !strings.Contains(out, "/srv/seen") {
			t.Errorf("%s: changes: %s", state, out)
		}
		if state == "running" {
			c.ok("stop", "-t", "0", "memory")
		}
	}
}

// TestCopyGenerated copies the files that a start generates: what the container sees, not what lies below.
func TestCopyGenerated(t *testing.T) {
	c := newCLI(t)
	etc := t.TempDir()
	if err := os.WriteFile(filepath.Join(etc, "hosts"), []byte("mine\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	seen := c.ok("run", "--name", "generated", "-h", "box", "--add-host", "there:192.0.2.7", "base", "cat", "/etc/hosts")
	c.remove("generated")
	if !strings.Contains(seen, "192.0.2.7\tthere") {
		t.Fatalf("the container has %q", seen)
	}
	to := t.TempDir()
	c.ok("cp", "generated:/etc/hosts", to)
	c.ok("cp", "generated:/etc", to)
	c.ok("cp", "generated:/etc/hostname", filepath.Join(to, "name"))
	for name, want := range map[string]string{"hosts": seen + "\n", "etc/hosts": seen + "\n", "etc/hostname": "box\n", "name": "box\n"} {
		if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
	}
	c.ok("create", "--name", "own-hosts", "-v", filepath.Join(etc, "hosts")+":/etc/hosts", "base", "true")
	c.remove("own-hosts")
	if out := c.run("cp", "own-hosts:/etc/hosts", "-").stdout; !strings.Contains(out, "mine\n") {
		t.Errorf("the file that is mounted: %q", out)
	}
}

// TestCopyAboveMounts copies a directory with mounts below it out and in, as one tree.
func TestCopyAboveMounts(t *testing.T) {
	c := newCLI(t)
	host := t.TempDir()
	for name, text := range map[string]string{"conf": "old\n", "dir/h": "host\n"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(host, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(host, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.ok("run", "-d", "--name", "above", "-v", "vol-above:/top/data", "-v", filepath.Join(host, "dir")+":/top/data/dir", "-v",
		filepath.Join(host, "conf")+":/top/conf", "base", "sh", "-c", "echo own > /top/own; echo vol > /top/data/.v; chown 33:33 /top/data/.v; touch /top/ready; sleep 1000")
	c.remove("above")
	defer c.run("volume", "rm", "vol-above")
	c.ok("exec", "above", "sh", "-c", "while ! test -e /top/ready; do sleep 0.05; done")
	in := filepath.Join(t.TempDir(), "in")
	for _, name := range []string{"new", "conf", "data/new", "data/dir/new"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(in, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(in, name), []byte("from outside to "+name+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, state := range []string{"running", "stopped"} {
		to := filepath.Join(t.TempDir(), "to")
		c.ok("cp", "above:/top", to)
		for name, want := range map[string]string{"own": "own\n", "data/.v": "vol\n", "data/dir/h": "host\n", "conf": "old\n"} {
			if got, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(got) != want && !(name == "conf" && state == "stopped") {
				t.Errorf("%s, %s: %q, %v", state, name, got, err)
			}
		}
		if out := tarList(t, c.run("cp", "above:/", "-").stdout); !slices.Contains(out, "top/data/.v 33:33 644") && !slices.Contains(out, "/top/data/.v 33:33 644") {
			t.Errorf("%s: the archive of the root has no file of the volume", state)
		}
		if out := tarList(t, c.run("export", "above").stdout); slices.ContainsFunc(out, func(s string) bool { return strings.Contains(s, "data/.v") }) {
			t.Errorf("%s: an export has a file of the volume", state)
		}
		c.ok("cp", in+"/.", "above:/top")
		for path, name := range map[string]string{filepath.Join(host, "conf"): "conf", filepath.Join(host, "dir", "new"): "data/dir/new"} {
			if got, err := os.ReadFile(path); err != nil || string(got) != "from outside to "+name+"\n" {
				t.Errorf("%s, %s: %q, %v", state, path, got, err)
			}
			os.WriteFile(path, nil, 0o644)
		}
		if state == "running" {
			if out := c.ok("exec", "above", "cat", "/top/new", "/top/data/new"); out != "from outside to new\nfrom outside to data/new" {
				t.Errorf("%q", out)
			}
			c.ok("exec", "above", "rm", "/top/new", "/top/data/new")
			c.ok("stop", "-t", "0", "above")
		}
	}
	c.ok("start", "above")
	if out := c.ok("exec", "above", "cat", "/top/new", "/top/data/new"); out != "from outside to new\nfrom outside to data/new" {
		t.Errorf("%q", out)
	}
}
