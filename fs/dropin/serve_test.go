package dropin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/testenv"
)

// TestMain is the program itself when it is called as one, and otherwise runs
// the tests as a plain user, who mounts through fusermount3.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "overlay" {
		inv, err := Parse(os.Args[2:])
		if err == nil {
			err = Run(inv, os.Args[2:])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "mica:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(testenv.Main(m))
}

// overlay runs the program in a directory and gives what it says.
func overlay(dir string, args ...string) (string, error) {
	cmd := exec.Command("/proc/self/exe", append([]string{"overlay"}, args...)...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// scene makes lower, upper, work and merged directories.
func scene(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"low:er", "lower,2", "upper", "work", "merged"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(dir, "low:er/file"), []byte("lower"), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "lower,2/second"), []byte("second"), 0o644))
	t.Cleanup(func() {
		if mounted(t, filepath.Join(dir, "merged")) {
			unmount(t, filepath.Join(dir, "merged"))
		}
	})
	return dir
}

func mounted(t *testing.T, dir string) bool {
	t.Helper()
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	return st.Type == unix.FUSE_SUPER_MAGIC
}

func unmount(t *testing.T, dir string) {
	t.Helper()
	if out, err := exec.Command("fusermount3", "-u", dir).CombinedOutput(); err != nil {
		t.Errorf("unmount: %v: %s", err, out)
	}
}

// TestBackground: the mount answers when the command returns, from relative
// paths, and is gone with what it wrote in the upper after fusermount3 -u.
func TestBackground(t *testing.T) {
	dir := scene(t)
	merged := filepath.Join(dir, "merged")
	for round := range 3 {
		out, err := overlay(dir, "-o", `lowerdir=low\:er:lower\,2,upperdir=upper,workdir=work`, "merged")
		if err != nil || out != "" {
			t.Fatalf("round %d: %v: %s", round, err, out)
		}
		if !mounted(t, merged) {
			t.Fatalf("round %d: not mounted when the command has returned", round)
		}
		for name, want := range map[string]string{"file": "lower", "second": "second"} {
			if text, err := os.ReadFile(filepath.Join(merged, name)); err != nil || string(text) != want {
				t.Errorf("round %d: %s: %q, %v", round, name, text, err)
			}
		}
		name := fmt.Sprint("new", round)
		must(t, os.WriteFile(filepath.Join(merged, name), []byte(name), 0o640))
		unmount(t, merged)
		if mounted(t, merged) {
			t.Fatalf("round %d: still mounted", round)
		}
		if text, err := os.ReadFile(filepath.Join(dir, "upper", name)); err != nil || string(text) != name {
			t.Errorf("round %d: in the upper: %q, %v", round, text, err)
		}
		// The server may still be closing: the next one waits for it.
	}
}

// waitUnlocked waits until no server uses a work directory.
func waitUnlocked(t *testing.T, work string) {
	t.Helper()
	fd, err := unix.Open(work, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Flock(fd, unix.LOCK_EX))
}

// TestReadOnly: without an upper nothing can be written.
func TestReadOnly(t *testing.T) {
	dir := scene(t)
	if out, err := overlay(dir, "-o", `lowerdir=low\:er:lower\,2`, "merged"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	merged := filepath.Join(dir, "merged")
	if text, err := os.ReadFile(filepath.Join(merged, "second")); err != nil || string(text) != "second" {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.WriteFile(filepath.Join(merged, "new"), nil, 0o600); !strings.Contains(fmt.Sprint(err), unix.EROFS.Error()) {
		t.Errorf("write: %v", err)
	}
}

// TestStartErrors: what fails before the mount is there, or in the server, is
// one line on standard error and a status that is not zero, and no mount.
func TestStartErrors(t *testing.T) {
	for _, c := range []struct {
		name, options, mountpoint, says string
	}{
		{"no lower", "lowerdir=absent", "merged", "absent"},
		{"lower is a file", `lowerdir=low\:er/file`, "merged", "low:er/file"},
		{"no upper", `lowerdir=low\:er,upperdir=absent,workdir=work`, "merged", "absent"},
		{"no work", `lowerdir=low\:er,upperdir=upper,workdir=absent`, "merged", "absent"},
		{"no mountpoint", `lowerdir=low\:er`, "absent", "absent"},
		{"mountpoint is a file", `lowerdir=low\:er`, "low:er/file", "not a directory"},
		{"bad option", `lowerdir=low\:er,timeout=soon`, "merged", "timeout"},
		{"work elsewhere", `lowerdir=low\:er,upperdir=upper,workdir=/dev/shm`, "merged", "filesystem"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := scene(t)
			out, err := overlay(dir, "-o", c.options, c.mountpoint)
			if err == nil {
				t.Fatalf("status 0: %s", out)
			}
			if lines := strings.Count(out, "\n"); lines != 1 || !strings.Contains(out, c.says) {
				t.Errorf("says %q, want one line with %q", out, c.says)
			}
			if mounted(t, filepath.Join(dir, "merged")) {
				t.Error("mounted all the same")
			}
		})
	}
}

// TestInUse: an upper has one server at a time.
func TestInUse(t *testing.T) {
	dir := scene(t)
	must(t, os.Mkdir(filepath.Join(dir, "second"), 0o755))
	options := `lowerdir=low\:er,upperdir=upper,workdir=work`
	if out, err := overlay(dir, "-o", options, "merged"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := overlay(dir, "-o", options, "second")
	if err == nil || !strings.Contains(out, "in use") {
		t.Errorf("the second: %v: %s", err, out)
	}
}

// TestManyLowers mounts as many layers as are promised.
func TestManyLowers(t *testing.T) {
	dir := scene(t)
	var lowers []string
	for i := range maxLowers {
		name := fmt.Sprint("l", i)
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, name, fmt.Sprint("only", i)), nil, 0o600))
		must(t, os.WriteFile(filepath.Join(dir, name, "all"), []byte(name), 0o600))
		lowers = append(lowers, name)
	}
	if out, err := overlay(dir, "-o", "lowerdir="+strings.Join(lowers, ":"), "merged"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "merged"))
	if err != nil || len(entries) != maxLowers+1 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "merged/all")); string(text) != "l0" {
		t.Errorf("the topmost: %q, %v", text, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestHeldElsewhere: a server whose mount lives on in another mount namespace
// alone ends when it is told to, with all that was written on disk.
func TestHeldElsewhere(t *testing.T) {
	dir := scene(t)
	merged := filepath.Join(dir, "merged")
	if out, err := overlay(dir, "-o", `lowerdir=low\:er,upperdir=upper,workdir=work`, "merged"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// A namespace takes a copy of the mount and holds it.
	holder := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", "echo ready; exec sleep 1000")
	out, err := holder.StdoutPipe()
	must(t, err)
	must(t, holder.Start())
	defer func() {
		must(t, holder.Process.Kill())
		_ = holder.Wait()
	}()
	_, err = out.Read(make([]byte, 6))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(merged, "file"), []byte("changed"), 0o644))
	server := serverOf(t, filepath.Join(dir, "work"))
	unmount(t, merged)
	if holderSees := unix.Kill(server, 0); holderSees != nil {
		t.Fatalf("the server has ended although the mount is held: %v", holderSees)
	}
	must(t, unix.Kill(server, unix.SIGTERM))
	waitUnlocked(t, filepath.Join(dir, "work"))
	if text, err := os.ReadFile(filepath.Join(dir, "upper/file")); err != nil || string(text) != "changed" {
		t.Errorf("in the upper: %q, %v", text, err)
	}
}

// serverOf finds the process that has a work directory locked.
func serverOf(t *testing.T, work string) int {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/fd")
	must(t, err)
	for _, fds := range procs {
		links, _ := os.ReadDir(fds)
		for _, l := range links {
			if target, err := os.Readlink(filepath.Join(fds, l.Name())); err == nil && target == work {
				var pid int
				_, err := fmt.Sscanf(fds, "/proc/%d/", &pid)
				must(t, err)
				return pid
			}
		}
	}
	t.Fatal("no process has the work directory open")
	return 0
}

// TestFilesThatAreOnlyMade counts requests: a file that is made and closed
// before any is opened costs no RELEASE.
func TestFilesThatAreOnlyMade(t *testing.T) {
	dir := scene(t)
	merged := filepath.Join(dir, "merged")
	if out, err := overlay(dir, "-o", `lowerdir=low\:er,upperdir=upper,workdir=work,stats=`+filepath.Join(dir, "stats"), "merged"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for i := range 10 {
		fd, err := unix.Open(filepath.Join(merged, fmt.Sprint(i)), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
		must(t, err)
		must(t, unix.Close(fd))
	}
	unmount(t, merged)
	var raw []byte
	for deadline := time.Now().Add(10 * time.Second); ; {
		var err error
		if raw, err = os.ReadFile(filepath.Join(dir, "stats")); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	var stats struct{ Requests map[string]int }
	must(t, json.Unmarshal(raw, &stats))
	if r := stats.Requests; r["CREATE"] != 10 || r["RELEASE"] != 0 {
		t.Errorf("requests: %v", r)
	}
}
