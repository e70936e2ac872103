package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"
)

func TestCommitAndHistory(t *testing.T) {
	c := newCLI(t)
	c.remove("build")
	c.ok("run", "--name", "build", "-e", "MADE=by run", "base", "sh", "-c", "echo new > /srv/new; rm /lower/gone; mkdir /deep; chmod 700 /deep; chown 33:33 /deep")
	diff := c.ok("diff", "build")
	for _, line := range []string{"A /srv/new", "D /lower/gone", "A /deep", "C /srv", "C /lower"} {
		if !strings.Contains("\n"+diff+"\n", "\n"+line+"\n") {
			t.Errorf("diff lacks %q:\n%s", line, diff)
		}
	}
	if strings.Contains(diff, "hosts") || strings.Contains(diff, "/proc") {
		t.Errorf("diff shows mount points:\n%s", diff)
	}
	id := c.ok("commit", "-a", "somebody", "-m", "Add things", "-c", "CMD cat /srv/new", "-c", `ENTRYPOINT ["/bin/sh", "-c"]`, "-c", "LABEL k=v", "-c", "USER web", "build", "made:1")
	if !strings.HasPrefix(id, "sha256:") {
		t.Errorf("commit prints %q", id)
	}
	if got := c.ok("inspect", "-f", `{{.Id}} {{.Author}} {{.Config.User}} {{index .Config.Labels "k"}} {{json .Config.Entrypoint}}`, "made:1"); got != id+` somebody web v ["/bin/sh","-c"]` {
		t.Errorf("inspect prints %s", got)
	}
	if got := c.ok("inspect", "-f", "{{.Config.Env}}", "made:1"); !strings.Contains(got, "MADE=by run") {
		t.Errorf("environment %s", got)
	}
	if got := c.ok("run", "--rm", "--entrypoint", "", "made:1", "sh", "-c", "cat /srv/new; ls /lower; stat -c '%a %u:%g' /deep; id -u"); got != "new\nfile\n700 33:33\n33" {
		t.Errorf("the image holds %q", got)
	}
	var rows []historyRow
	for line := range strings.Lines(c.ok("history", "--format", "json", "made:1")) {
		var row historyRow
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, row)
	}
	if len(rows) != 2 || rows[0].Comment != "Add things" || rows[1].Comment != "test root" || !strings.HasPrefix(id[7:], rows[0].ID) {
		t.Errorf("history: %+v", rows)
	}
	head, _, _ := strings.Cut(c.ok("history", "made:1"), "\n")
	if strings.Join(strings.Fields(head), " ") != "IMAGE CREATED CREATED BY SIZE COMMENT" {
		t.Errorf("history begins with %q", head)
	}
	c.fails(125, "in use", "rmi", "base")
	c.ok("rmi", "made:1")
	c.fails(125, "no such image", "history", "made:1")
}

// A container that runs is committed as it is, and goes on.
func TestCommitWhileRunning(t *testing.T) {
	c := newCLI(t)
	c.remove("busy")
	c.ok("run", "-d", "--name", "busy", "base", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /srv/a; echo $i > /srv/b; done")
	until(t, "the first write", func() bool { return c.run("exec", "busy", "cat", "/srv/b").code == 0 })
	for range 3 {
		c.ok("commit", "busy", "snapshot")
		out := strings.Fields(c.ok("run", "--rm", "snapshot", "cat", "/srv/a", "/srv/b"))
		if len(out) == 0 {
			t.Errorf("the image holds nothing")
		}
	}
	before := c.ok("exec", "busy", "cat", "/srv/b")
	until(t, "the container to go on", func() bool { return c.ok("exec", "busy", "cat", "/srv/b") != before })
	c.ok("rm", "-f", "busy")
	c.ok("rmi", "-f", "snapshot")
}

// Those who look at a container that does not run wait for each other, but not for a mount that may stay for ever.
func TestLookAtOnce(t *testing.T) {
	c := newCLI(t)
	c.remove("shared")
	c.ok("run", "--name", "shared", "base", "sh", "-c", "echo new > /srv/new")
	commands := [][]string{{"diff", "shared"}, {"export", "-o", "/dev/null", "shared"}, {"cp", "shared:/srv/new", "-"}}
	for i := range 4 {
		name := fmt.Sprint("at-once", i)
		defer c.run("rmi", name)
		commands = append(commands, []string{"commit", "shared", name})
	}
	results := make([]result, len(commands))
	var wg sync.WaitGroup
	for i, line := range commands {
		wg.Go(func() { results[i] = c.run(line...) })
	}
	wg.Wait()
	for i, r := range results {
		if r.code != 0 {
			t.Errorf("%v: exit code %d, %s", commands[i], r.code, r.stderr)
		}
	}
	dir := t.TempDir()
	c.ok("mount", "--rw", "shared", dir)
	defer c.run("umount", dir)
	c.fails(125, "mounted for writing on "+dir, "diff", "shared")
}

// A store on a read-only filesystem can be read, with a lock file and without.
func TestReadOnlyStore(t *testing.T) {
	c := &cli{t: t, root: t.TempDir()}
	archive := newCLI(t).ok("save", "base")
	if r := c.runInput(archive, "load", "-q"); r.code != 0 {
		t.Fatal(r.stderr)
	}
	write(t, filepath.Join(c.root, "tmp", "left"), "of a process that died")
	script := `mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && ! touch "$0/x" 2>/dev/null && shift &&
for line in images "history base" "inspect base" "ps -a" "volume ls" "system df" "system check -q"; do "$MICA" $line || exit; done`
	for range 2 {
		cmd := exec.CommandContext(t.Context(), "unshare", "-rm", "sh", "-c", script, c.root, "-")
		cmd.Env = append(c.command(t.Context()).Env, "MICA="+filepath.Join(shared.dir, "mica"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if err := os.Remove(filepath.Join(c.root, "lock")); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

// What is removed is summed up once.
func TestSystemPrune(t *testing.T) {
	c := &cli{t: t, root: t.TempDir()}
	if out := newCLI(t).run("save", "base"); out.code == 0 {
		c.runInput(out.stdout, "load", "-q")
	}
	c.ok("run", "--name", "old", "base", "sh", "-c", "echo new > /srv/new")
	out := c.ok("system", "prune", "-af", "--volumes")
	if strings.Count(out, "reclaimed") != 1 || !strings.Contains(out, "Deleted Containers:") || !strings.Contains(out, "Deleted Images:") {
		t.Errorf("prune prints\n%s", out)
	}
	if out := c.ok("system", "prune", "-f"); out != "Total reclaimed space: 0B" {
		t.Errorf("with nothing to remove, prune prints\n%s", out)
	}
}

func TestSaveLoadExportImport(t *testing.T) {
	c := newCLI(t)
	dir := t.TempDir()
	want := c.ok("inspect", "-f", "{{.Id}}", "base")
	for _, kind := range []string{"oci-archive", "docker-archive"} {
		file := filepath.Join(dir, kind+".tar")
		c.ok("save", "--format", kind, "-o", file, "base")
		other := &cli{t: t, root: filepath.Join(dir, kind)}
		if out := other.ok("load", "-q", "-i", file); out != "Loaded image: base:latest" {
			t.Errorf("%s: load prints %q", kind, out)
		}
		if got := other.ok("inspect", "-f", "{{.Id}}", "base"); got != want {
			t.Errorf("%s: image %s, want %s", kind, got, want)
		}
		if got := other.ok("run", "--rm", "base", "cat", "/lower/file"); got != "lower" {
			t.Errorf("%s: %q", kind, got)
		}
	}
	c.remove("flat")
	c.ok("run", "--name", "flat", "base", "sh", "-c", "echo changed > /lower/file")
	file := filepath.Join(dir, "flat.tar")
	c.ok("export", "-o", file, "flat")
	c.ok("import", file, "flattened")
	if got := c.ok("run", "--rm", "flattened", "sh", "-c", "cat /lower/file; stat -c %u /home/user"); got != "changed\n61000" {
		t.Errorf("%q", got)
	}
	c.ok("rmi", "flattened")
	for _, bad := range []string{"/nothing.tar", "/etc/passwd"} {
		if r := c.run("import", bad, "bad"); r.code != 125 || strings.Count(r.stderr, "\n") != 1 {
			t.Errorf("import %s: %+v", bad, r)
		}
	}
	c.fails(125, "bad", "run", "--rm", "--pull", "never", "bad", "true")
}

func TestCopy(t *testing.T) {
	c := newCLI(t)
	for _, running := range []bool{false, true} {
		name := "copy-stopped"
		if running {
			name = "copy-running"
		}
		t.Run(name, func(t *testing.T) {
			c := &cli{t: t, root: c.root}
			c.remove(name)
			c.ok("create", "--name", name, "base", "sleep", "1000")
			if running {
				c.ok("start", name)
				// What the kernel has been told before must not stay.
				c.fails2("exec", name, "cat", "/srv/file")
				c.ok("exec", name, "cat", "/lower/file")
			}
			dir := t.TempDir()
			src := filepath.Join(dir, "src")
			write(t, filepath.Join(src, "file"), "one\n")
			write(t, filepath.Join(src, "sub", "file"), "two\n")
			if err := os.Symlink("file", filepath.Join(src, "link")); err != nil {
				t.Fatal(err)
			}
			c.ok("cp", filepath.Join(src, "file"), name+":/srv/")
			c.ok("cp", filepath.Join(src, "file"), name+":/lower/file")
			c.ok("cp", src, name+":/srv/new")
			c.ok("cp", src, name+":/srv")
			c.ok("cp", src+"/.", name+":/var/data")
			c.fails(125, "there is no directory", "cp", src, name+":/no/such/dir")
			c.fails(125, "there is no /nothing", "cp", name+":/nothing", dir)
			if !running {
				c.ok("start", name)
			}
			if got := c.ok("exec", name, "sh", "-c", "cat /srv/file /lower/file /srv/new/sub/file /srv/src/link /var/data/sub/file; stat -c %u:%g /srv/file; readlink /var/data/link"); got != "one\none\ntwo\none\ntwo\n0:0\nfile" {
				t.Errorf("in the container: %q", got)
			}
			c.ok("exec", name, "sh", "-c", "echo back > /srv/back; chmod 640 /srv/back")
			if !running {
				c.ok("kill", name)
			}
			c.ok("cp", name+":/srv/back", filepath.Join(dir, "renamed"))
			if got := read(t, filepath.Join(dir, "renamed")); got != "back\n" {
				t.Errorf("copied out: %q", got)
			}
			if st, err := os.Stat(filepath.Join(dir, "renamed")); err != nil || st.Mode() != 0o640 {
				t.Errorf("copied out: %v, %v", st.Mode(), err)
			}
			c.ok("cp", name+":/srv/new", dir)
			c.ok("cp", name+":/srv/new/.", filepath.Join(dir, "other"))
			if got := read(t, filepath.Join(dir, "new", "sub", "file")) + read(t, filepath.Join(dir, "other", "link")); got != "two\none\n" {
				t.Errorf("copied out: %q", got)
			}
			archive := c.ok("cp", name+":/srv/new", "-")
			tr := tar.NewReader(strings.NewReader(archive))
			if h, err := tr.Next(); err != nil || h.Name != "new/" {
				t.Errorf("archive begins with %v, %v", h, err)
			}
			if r := c.runInput(archive+"\n", "cp", "-", name+":/tmp"); r.code != 0 {
				t.Errorf("from a stream: %+v", r)
			}
		})
	}
}

// fails2 runs a command line of which only the failure counts.
func (c *cli) fails2(args ...string) {
	c.t.Helper()
	if r := c.run(args...); r.code == 0 {
		c.t.Errorf("mica %s succeeds", strings.Join(args, " "))
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestImageFromElsewhereOverHost: an image that comes from elsewhere may say what a commit of "host" says, or be called that,
// and is not given the machine's root for it.
func TestImageFromElsewhereOverHost(t *testing.T) {
	c := newCLI(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(t.TempDir(), "evil.tar")
	c.remove("made-here")
	c.ok("create", "--name", "made-here", "base", "true")
	c.ok("commit", "-c", "LABEL mica.base=host", "made-here", "evil")
	c.ok("save", "-o", archive, "evil")
	c.ok("rmi", "evil")
	c.ok("load", "-i", archive)
	defer c.run("rmi", "-f", "evil")
	c.fails(125, "comes from elsewhere", "run", "--rm", "evil", "cat", secret)
	if got := c.ok("run", "--rm", "--label", "mica.base=host", "evil", "cat", secret); got != "secret" {
		t.Errorf("with the user's word: %q", got)
	}
	mnt := t.TempDir()
	c.ok("mount", "evil", mnt)
	defer c.ok("umount", mnt)
	if _, err := os.Stat(filepath.Join(mnt, secret)); !os.IsNotExist(err) {
		t.Errorf("its mount shows the machine's files: %v", err)
	}
	c.fails(125, "this machine's own root", "tag", "evil", "host")
	c.fails(125, "this machine's own root", "commit", "made-here", "host:latest")
}

// The machine's own root is an image, and stays as it is.
func TestHostImage(t *testing.T) {
	c := newCLI(t)
	c.remove("machine")
	r := c.run("run", "--name", "machine", "host", "sh", "-c", "echo changed > /etc/hosts-of-test; ls /proc/1 >/dev/null && cat /etc/hosts-of-test; ls -A "+c.root)
	if r.stdout != "changed\n" || r.code != 0 {
		t.Fatalf("%+v", r)
	}
	if _, err := os.Stat("/etc/hosts-of-test"); !os.IsNotExist(err) {
		t.Errorf("the machine was changed: %v", err)
	}
	if got := c.ok("diff", "machine"); got != "C /etc\nA /etc/hosts-of-test" {
		t.Errorf("diff: %q", got)
	}
	if out := c.ok("cp", "machine:/etc", "-"); !strings.Contains(out, "etc/hosts-of-test") || strings.Contains(out, "etc/shadow\x00") {
		t.Error("an archive has not what was changed, or what may not be read")
	}
	c.ok("commit", "machine", "changed-machine")
	if got := c.ok("run", "--rm", "changed-machine", "cat", "/etc/hosts-of-test"); got != "changed" {
		t.Errorf("%q", got)
	}
	c.ok("rmi", "changed-machine")
}

func TestSystem(t *testing.T) {
	c := &cli{t: t, root: filepath.Join(t.TempDir(), "store")}
	newCLI(t) // the program's copy
	if got := c.ok("system", "check"); !strings.Contains(got, "clean") {
		t.Errorf("%q", got)
	}
	if got := c.ok("system", "df", "--format", "{{.Type}} {{.TotalCount}}"); got != "Images 0\nContainers 0\nLocal Volumes 0\nBuild Cache 0" {
		t.Errorf("%q", got)
	}
	if got := c.ok("info", "--format", "{{.Root}}"); got != c.root {
		t.Errorf("%q", got)
	}
	c.ok("system", "prune", "-f")
	if r := c.run("system", "prune"); r.code != 125 || !strings.HasSuffix(r.stderr, "mica: nothing was removed: add -f to go ahead\n") {
		t.Errorf("a prune that nobody answers for: exit code %d, %q", r.code, r.stderr)
	}
	if got := c.ok("version", "--format", "{{.Client.Os}}"); got != "linux" {
		t.Errorf("%q", got)
	}
}

// Every command has words on what it does and an example.
func TestHelp(t *testing.T) {
	for _, c := range newRootCommand("", nil).Commands() {
		for _, sub := range append(c.Commands(), c) {
			if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" || sub.Parent().Name() == "completion" || sub.HasSubCommands() {
				continue
			}
			if sub.Short == "" || sub.Example == "" {
				t.Errorf("%s: no description or no example", sub.CommandPath())
			}
			if strings.HasSuffix(sub.Short, ".") {
				t.Errorf("%s: %q ends with a stop", sub.CommandPath(), sub.Short)
			}
		}
	}
}

// TestPruneCounts tells what a prune of images with several layers has freed.
func TestPruneCounts(t *testing.T) {
	c := &cli{t: t, root: filepath.Join(t.TempDir(), "store")}
	newCLI(t) // for the executable and the test root
	c.ok("import", filepath.Join(shared.dir, "base.tar"), "base")
	for i := range 2 {
		name := "grown-" + strconv.Itoa(i)
		c.ok("run", "--name", name, "base", "sh", "-c", "head -c 2000000 /dev/zero > /big"+strconv.Itoa(i))
		c.ok("commit", name, name)
		c.ok("rm", name)
	}
	out := c.ok("image", "prune", "-af")
	_, size, ok := strings.Cut(out, "Total reclaimed space: ")
	if n, err := units.FromHumanSize(size); !ok || err != nil || n < 4_000_000 {
		t.Errorf("it says that %q were freed: %s", size, out)
	}
}

// TestOddAttribute: an attribute that no archive can spell does not stand in the way.
func TestOddAttribute(t *testing.T) {
	c := newCLI(t)
	c.remove("odd-attribute")
	c.ok("create", "--name", "odd-attribute", "base", "true")
	dir := t.TempDir()
	f := filepath.Join(dir, "f")
	if err := os.WriteFile(f, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.ok("cp", f, "odd-attribute:/f")
	upper := filepath.Join(c.root, "containers", c.ok("inspect", "-f", "{{.Id}}", "odd-attribute"), "upper", "f")
	for _, name := range []string{"user.a=b", "user.plain"} {
		if err := unix.Setxattr(upper, name, []byte("v"), 0); err != nil {
			t.Fatal(err)
		}
	}
	c.ok("commit", "odd-attribute", "odd-attribute")
	defer c.run("rmi", "odd-attribute")
	c.ok("cp", "odd-attribute:/f", filepath.Join(dir, "back"))
	c.ok("export", "-o", filepath.Join(dir, "all.tar"), "odd-attribute")
	data, err := os.ReadFile(filepath.Join(dir, "all.tar"))
	if err != nil || !bytes.Contains(data, []byte("user.plain")) {
		t.Errorf("the other attribute is lost, %v", err)
	}
}

// TestBrokenImage: one that cannot be read hides no other, and is told of.
func TestBrokenImage(t *testing.T) {
	newCLI(t) // for the executable and the test root
	c := &cli{t: t, root: filepath.Join(t.TempDir(), "store")}
	tar := filepath.Join(shared.dir, "base.tar")
	c.ok("import", tar, "good")
	id := c.ok("import", tar, "broken")
	write(t, filepath.Join(c.root, "blobs/sha256", strings.TrimPrefix(id, "sha256:")), "{}")
	for _, try := range []struct {
		words string
		args  []string
	}{
		{"good", []string{"images"}},
		{"good", []string{"images", "--format", "{{.Repository}}"}},
		{"Images          1", []string{"system", "df"}},
		{"1", []string{"system", "df", "--format", "{{.TotalCount}}"}},
		{"Images:          1", []string{"info"}},
		{"1", []string{"info", "--format", "{{.Images}}"}},
	} {
		c.fails(125, "image broken:latest: ", try.args...)
		if r := c.run(try.args...); !strings.Contains(r.stdout, try.words) {
			t.Errorf("%q prints %q", try.args, r.stdout)
		}
	}
	if out := c.ok("__complete", "run", ""); !strings.HasPrefix(out, "good\n") {
		t.Errorf("completion: %q", out)
	}
}

// TestRemoveAll: what removes images and volumes by name removes all of them, but for those in use.
func TestRemoveAll(t *testing.T) {
	c := newCLI(t)
	file := filepath.Join(t.TempDir(), "base.tar")
	c.ok("save", "-o", file, "base")
	c.root = t.TempDir()
	c.ok("load", "-q", "-i", file)
	c.ok("tag", "base", "again:1")
	c.ok("import", "-q", t.TempDir(), "other")
	c.ok("rmi", "--ignore", "missing", "other")
	c.ok("import", t.TempDir(), "other")
	for _, name := range []string{"free", "taken"} {
		c.ok("volume", "create", name)
	}
	c.ok("create", "--name", "user", "-v", "taken:/v", "base", "true")
	df := regexp.MustCompile(` {2,}`).ReplaceAllString(c.ok("system", "df", "-v"), "|")
	for _, want := range []string{`(?m)^base\|latest\|\w{12}\|.* ago\|([0-9.]+MB)\|0B\|[0-9.]+MB\|1$`, `(?m)^\w{12}\|base\|"true"\|1\|0B \(virtual .*MB\)\|.*\|Created\|user$`,
		`(?m)^free\|0\|0B$`, `(?m)^taken\|1\|0B$`, `(?m)^Build Cache space usage:$`} {
		if !regexp.MustCompile(want).MatchString(df) {
			t.Errorf("system df -v does not show %s:\n%s", want, df)
		}
	}
	c.fails(125, "exclude each other", "system", "df", "-v", "--format", "json")
	if r := c.run("volume", "rm", "--all"); r.code == 0 || r.stdout != "free\n" || !strings.Contains(r.stderr, "taken") {
		t.Errorf("volumes: exit code %d, %q, %q", r.code, r.stdout, r.stderr)
	}
	r := c.run("rmi", "-a")
	if left := c.ok("images", "-q"); r.code == 0 || !strings.Contains(r.stderr, "in use") || strings.Count(left, "\n") != 0 || left == "" {
		t.Errorf("images: exit code %d, %q; left: %q", r.code, r.stderr, left)
	}
	c.ok("rm", "user")
	c.ok("rmi", "--all")
	c.ok("volume", "rm", "-a")
	if left := c.ok("images", "-aq") + c.ok("volume", "ls", "-q"); left != "" {
		t.Errorf("left: %q", left)
	}
	for _, line := range []string{"rmi", "rmi --all base", "rmi missing", "volume rm", "volume rm --all x"} {
		if r := c.run(strings.Fields(line)...); r.code == 0 {
			t.Errorf("%s: no error", line)
		}
	}
}
