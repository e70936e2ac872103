package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tree makes files of the host for a test: "dir/" is a directory, "link -> target" a symlink, anything else a file with its
// name in it.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range names {
		link, target, isLink := strings.Cut(name, " -> ")
		p := filepath.Join(dir, link)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		switch {
		case err != nil:
		case isLink:
			err = os.Symlink(target, p)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte(filepath.Base(name)), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestCopyRules copies by the rules of cp, into a container that runs and into one that does not.
func TestCopyRules(t *testing.T) {
	c := newCLI(t)
	host := tree(t, "f", "d/a", "d/sub/b", "ld -> d", "private/s")
	for name, mode := range map[string]os.FileMode{"private": 0o700, "d/sub": 0o750} {
		if err := os.Chmod(filepath.Join(host, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(filepath.Join(host, "d/a"), filepath.Join(host, "d/a2")); err != nil {
		t.Fatal(err)
	}
	for _, state := range []string{"running", "stopped"} {
		t.Run(state, func(t *testing.T) {
			c := &cli{t: t, root: c.root}
			name := "rules-" + state
			c.remove(name)
			c.ok("run", "-d", "--name", name, "base", "sh", "-c",
				`mkdir -p /x/dir /x/locked; echo old >/x/t1; ln -s t1 /x/lt; ln -s gone /x/dangling; ln -s dir /x/ld; echo one >/x/h1; ln /x/h1 /x/h2
				echo in >/x/locked/f; chmod 555 /x/locked; chmod 2770 /x/dir; echo >/x/dir/in; echo done >/ready; sleep 300`)
			until(t, "the files", func() bool { return strings.Contains(c.run("cp", name+":/ready", "-").stdout, "done") })
			if state == "stopped" {
				c.ok("stop", "-t", "0", name)
			}
			in := func(src, dst string) {
				t.Helper()
				c.ok("cp", filepath.Join(host, src)+src[len(strings.TrimRight(src, "/.")):], name+":"+dst)
			}
			in("d", "/x/new")         // a new name
			in("d", "/x/dir")         // into a directory
			in("d/.", "/x/content")   // a new name
			in("ld/.", "/x/linked")   // the content behind a symlink
			in("ld/", "/x/linked2")   // the directory behind it
			in("d", "/x/ld")          // into the directory behind one
			in("f", "/x/lt")          // over the file behind one
			in("f", "/x/dangling")    // where nothing is yet
			in("f", "/x/h1")          // one name of two
			in("private", "/private") // with its mode
			for _, bad := range [][]string{
				{"not a directory", "cp", name + ":/x/t1/", t.TempDir()}, {"not a directory", "cp", name + ":/x/t1/.", t.TempDir()},
				{"is empty", "cp", "", name + ":/x"}, {"is empty", "cp", name + ":/x", ""}, {"cannot copy the directory", "cp", filepath.Join(host, "d"), name + ":/x/t1"},
				{"no directory", "cp", filepath.Join(host, "f"), name + ":/x/none/"}, {"no directory", "cp", filepath.Join(host, "f"), name + ":/none/f"},
			} {
				c.fails(125, bad[0], bad[1:]...)
			}
			out := t.TempDir()
			c.ok("cp", name+":/x", filepath.Join(out, "x"))
			c.ok("cp", name+":/x/ld/", filepath.Join(out, "behind"))
			c.ok("cp", name+":/x/ld", filepath.Join(out, "link"))
			c.ok("cp", name+":/private", filepath.Join(out, "private"))
			for p, want := range map[string]string{
				"x/new/a": "a", "x/new/sub/b": "b", "x/dir/d/a": "a", "x/content/sub/b": "b", "x/linked/a": "a", "x/linked2/a": "a", "x/dir/d/sub/b": "b",
				"x/t1": "f", "x/gone": "f", "x/h1": "f", "x/h2": "one\n", "x/locked/f": "in\n", "behind/in": "\n", "private/s": "s",
			} {
				if got, err := os.ReadFile(filepath.Join(out, p)); err != nil || string(got) != want {
					t.Errorf("%s: %q, %v", p, got, err)
				}
			}
			for p, want := range map[string]os.FileMode{
				"x/lt": os.ModeSymlink | 0o777, "link": os.ModeSymlink | 0o777, "private": os.ModeDir | 0o700, "x/new/sub": os.ModeDir | 0o750,
				"x/locked": os.ModeDir | 0o555, "behind": os.ModeDir | os.ModeSetgid | 0o770,
			} {
				if fi, err := os.Lstat(filepath.Join(out, p)); err != nil || fi.Mode() != want {
					t.Errorf("%s has the mode %v, %v, want %v", p, fi.Mode(), err, want)
				}
			}
			a, err := os.Stat(filepath.Join(out, "x/new/a"))
			a2, err2 := os.Stat(filepath.Join(out, "x/new/a2"))
			if err != nil || err2 != nil || !os.SameFile(a, a2) {
				t.Errorf("two names of a file are two files: %v, %v", err, err2)
			}
			if err := os.Chmod(filepath.Join(out, "x/locked"), 0o755); err != nil {
				t.Error(err)
			}
			// Onto symlinks of the host.
			to := tree(t, "there", "l -> there", "new -> missing", "dir/", "ldir -> dir")
			if err := os.Symlink(filepath.Join(to, "abs-target"), filepath.Join(to, "abs")); err != nil {
				t.Fatal(err)
			}
			for link, written := range map[string]string{"l": "there", "new": "missing", "abs": "abs-target", "ldir": "dir/t1"} {
				c.ok("cp", name+":/x/t1", filepath.Join(to, link))
				if got, err := os.ReadFile(filepath.Join(to, written)); err != nil || string(got) != "f" {
					t.Errorf("through %s: %q, %v", link, got, err)
				}
			}
		})
	}
}

// TestCopyOfWhatCannotBeRead ends with the reason, also where the container runs.
func TestCopyOfWhatCannotBeRead(t *testing.T) {
	c := newCLI(t)
	c.remove("unread")
	c.ok("run", "-d", "--name", "unread", "-v", "unread-volume:/v", "base", "sleep", "300")
	defer c.run("volume", "rm", "unread-volume")
	bad := tree(t, "a", "sub/b")
	if err := os.Chmod(filepath.Join(bad, "sub"), 0); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Join(bad, "sub"), 0o755)
	for _, dst := range []string{"/b", "/v/b"} {
		c.fails(125, "permission denied", "cp", bad, "unread:"+dst)
	}
	closed := t.TempDir()
	if err := os.Chmod(closed, 0o555); err != nil {
		t.Fatal(err)
	}
	c.fails(125, "make directory "+closed+"/d: permission denied", "cp", "unread:/etc", closed+"/d")
}

// TestCopyStreams reads archives of all kinds from standard input, mica's own among them.
func TestCopyStreams(t *testing.T) {
	c := newCLI(t)
	c.remove("streams")
	c.ok("run", "-d", "--name", "streams", "base", "sh", "-c", "mkdir /x /y /z; echo 1 >/x/f; ln /x/f /x/g; sleep 300")
	until(t, "the files", func() bool { return c.run("exec", "streams", "sh", "-c", "test -e /x/g").code == 0 })
	if r := c.runInput(c.run("cp", "streams:/", "-").stdout, "cp", "-", "streams:/y"); r.code != 0 {
		t.Errorf("its own archive: %s", r.stderr)
	}
	dir := t.TempDir()
	sparse, err := os.Create(filepath.Join(dir, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sparse.WriteAt([]byte("end"), 1<<20); err != nil {
		t.Fatal(err)
	}
	sparse.Close()
	old, err := exec.Command("tar", "-C", dir, "--format=gnu", "-cSf", "-", "sparse").Output()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeCont, Name: "/contiguous", Mode: 0o600}, {Typeflag: tar.TypeReg, Name: "late", Mode: 0o600, ModTime: time.Unix(20_000_000_000, 0), Format: tar.FormatPAX},
		{Typeflag: tar.TypeLink, Name: "linked", Linkname: "/late"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	zip.Close()
	for _, archive := range []string{string(old), b.String()} {
		if r := c.runInput(archive, "cp", "-", "streams:/z"); r.code != 0 {
			t.Error(r.stderr)
		}
	}
	if out := c.ok("exec", "streams", "sh", "-c", "cd /z; for f in *; do echo $f $(wc -c <$f); done; tail -c 3 sparse; cat /y/x/f"); out != "contiguous 0\nlate 0\nlinked 0\nsparse 1048579\nend1" {
		t.Errorf("%q", out)
	}
	back := filepath.Join(dir, "late")
	c.ok("cp", "streams:/z/late", back)
	var st syscall.Stat_t
	if err := syscall.Stat(back, &st); err != nil || st.Mtim.Sec != 20_000_000_000 && st.Mtim.Sec != 15_032_385_535 { // what ext4 can hold
		t.Errorf("the time is %d, %v", st.Mtim.Sec, err)
	}
}

// TestCopyIntoReadOnly refuses to change the root of a container that must not be.
func TestCopyIntoReadOnly(t *testing.T) {
	c := newCLI(t)
	c.remove("closed")
	c.ok("run", "-d", "--name", "closed", "--read-only", "-v", "closed-volume:/v", "base", "sleep", "300")
	defer c.run("volume", "rm", "closed-volume")
	f := filepath.Join(tree(t, "f"), "f")
	c.fails(125, "read-only", "cp", f, "closed:/usr/f")
	c.ok("cp", f, "closed:/v/f")
}

// TestCopyStaysInside: symlinks that a container has made lead nothing out of the directory that is copied to, also where
// something is mounted behind them.
func TestCopyStaysInside(t *testing.T) {
	c := newCLI(t)
	c.remove("leads-out")
	defer c.run("volume", "rm", "leads-out")
	c.ok("run", "--name", "leads-out", "-v", "leads-out:/srv/app/conf", "base", "sh", "-c",
		"echo evil > /srv/app/conf/evil; mv /etc /etc2; ln -s .. /etc; ln -s .. /srv/x; mv /srv/app /srv/app2; ln -s .. /srv/app")
	for _, src := range []string{"/srv", "/"} {
		dir := t.TempDir()
		r := c.run("cp", "leads-out:"+src, filepath.Join(dir, "backup"))
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) > 1 {
			t.Errorf("%s: beside the copy there are %v, %v (%s)", src, entries, err, r.stderr)
		}
	}
}

// TestCopyThroughLinks: a symlink on the way counts from where it lies, not from how it was reached.
func TestCopyThroughLinks(t *testing.T) {
	c := newCLI(t)
	c.remove("throughlinks")
	c.ok("run", "--name", "throughlinks", "base", "sh", "-c", "mkdir -p /b/c /b/x /x && ln -s b/c /a && ln -s ../x /b/c/link")
	dir := t.TempDir()
	for _, d := range []string{"b/c", "b/x", "x"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"a": "b/c", "b/c/link": "../x"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("f"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.ok("cp", filepath.Join(dir, "f"), "throughlinks:/a/link")
	if got := c.ok("diff", "throughlinks"); !strings.Contains(got, "A /b/x/f") || strings.Contains("\n"+got+"\n", "\nA /x/f\n") {
		t.Errorf("in the container: %s", got)
	}
	c.ok("cp", "throughlinks:/b/x/f", filepath.Join(dir, "a/link"))
	if _, err := os.Stat(filepath.Join(dir, "b/x/f")); err != nil {
		t.Error(err)
	}
}

// TestCopiedArchiveKeepsOwners: an archive says whose its files are to be, in the container's own files and in a volume.
func TestCopiedArchiveKeepsOwners(t *testing.T) {
	c := newCLI(t)
	c.remove("owned")
	c.ok("create", "--name", "owned", "-v", "/vol", "base", "true")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{{Typeflag: tar.TypeReg, Name: "user", Uid: 7, Gid: 8, Mode: 0o4755}, {Typeflag: tar.TypeReg, Name: "root", Mode: 0o600}} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	for _, dir := range []string{"/tmp", "/vol"} {
		if r := c.runInput(b.String(), "cp", "-", "owned:"+dir); r.code != 0 {
			t.Fatal(r.stderr)
		}
		for name, want := range map[string]string{"user": "user 7:8 4755", "root": "root 0:0 600"} {
			if got := tarList(t, c.run("cp", "owned:"+dir+"/"+name, "-").stdout); len(got) != 1 || got[0] != want {
				t.Errorf("%s/%s: %q, want %q", dir, name, got, want)
			}
		}
	}
	b.Reset()
	w = tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "foreign", Uid: 3_000_000_000, Gid: 3_000_000_000, Mode: 0o600}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if r := c.runInput(b.String(), "cp", "-", "owned:/vol"); r.code != 0 && !strings.Contains(r.stderr, "give it to 3000000000:3000000000: there is no such id") { // with one id it belongs to that
		t.Errorf("an owner that a volume cannot have: exit code %d, %s", r.code, r.stderr)
	}
}
