package layerstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"mica/internal/failpoint"
	"mica/internal/testenv"
)

// The test binary runs one operation on a store when these are set, so that it
// can be killed in the middle, and so that two processes can use one store.
const (
	envOp   = "MICA_TEST_STORE_OP"
	envRoot = "MICA_TEST_STORE_ROOT"
)

func TestMain(m *testing.M) {
	if op := os.Getenv(envOp); op != "" {
		if err := childOp(op, os.Getenv(envRoot)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// childOp is what the child process does.
func childOp(op, root string) error {
	s, err := Open(root)
	if err != nil {
		return err
	}
	ctx := context.Background()
	archive := testArchive("new")
	switch op {
	case "import":
		_, err = s.Import(ctx, bytes.NewReader(archive), "app", ImportOptions{})
	case "commit":
		var parent *Image
		if parent, err = s.Resolve("app"); err == nil {
			_, err = s.Commit(ctx, parent, fixedChanges(addedFile("f", "new")), CommitOptions{Ref: "app"})
		}
	case "tag":
		err = s.Tag("app", "other")
	case "remove":
		_, err = s.Remove("app", RemoveOptions{})
	case "unpack":
		var img *Image
		if img, err = s.Resolve("app"); err == nil {
			_, err = s.Layers(ctx, img)
		}
	case "pull":
		err = childPull(ctx, s, archive)
	case "open":
	case "churn":
		err = churn(s, os.Getpid())
	}
	return err
}

// childPull pulls an image from another store.
func childPull(ctx context.Context, s *Store, archive []byte) error {
	src, err := Open(s.Root() + ".source") // in the test's directory
	if err == nil {
		_, err = src.Import(ctx, bytes.NewReader(archive), "app:latest", ImportOptions{})
	}
	if err == nil {
		_, err = s.Pull(ctx, storeSource{src}, "app", PullOptions{})
	}
	return err
}

func testArchive(content string) []byte {
	var t testing.T
	return makeTar(&t, dir("./"), file("f", content), file(content, content))
}

// runChild runs one operation in a process of its own.
func runChild(t testing.TB, op, root, point string) ([]byte, error) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), envOp+"="+op, envRoot+"="+root, failpoint.Env+"="+point)
	return cmd.CombinedOutput()
}

func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	ws, ok := exit.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL
}

// crashPoints lists every failpoint that an operation passes; committed are
// those behind which the new state holds.
var crashPoints = []struct {
	op        string
	before    []string
	committed []string
}{
	{"import", []string{"import.unpacked", "import.staged", "import.synced", "import.blob-placed", "import.blobs-placed", "atomic.rename", "import.layer-placed", "import.layers-placed"}, []string{"import.index-written"}},
	{"commit", []string{"commit.archived", "commit.staged", "commit.synced", "commit.blob-placed", "commit.blobs-placed", "atomic.rename", "commit.layers-placed"}, []string{"commit.index-written"}},
	{"tag", []string{"tag.staged", "tag.synced", "atomic.rename"}, []string{"tag.index-written"}},
	{"pull", []string{"pull.staged", "pull.synced", "pull.blob-placed", "pull.blobs-placed", "pull.layer-placed", "pull.layers-placed"}, []string{"pull.index-written"}},
	{"remove", []string{"remove.checked", "atomic.rename"}, []string{"remove.index-written", "remove.discarded", "remove.collected"}},
	{"unpack", []string{"unpack.staged", "unpack.synced", "unpack.blobs-placed"}, []string{"unpack.layer-placed", "unpack.layers-placed"}},
}

// crashStore makes a store with the image "app", committed, so that its top
// layer is not unpacked yet.
func crashStore(t testing.TB) *Store {
	t.Helper()
	s := newStore(t)
	base, err := s.Import(context.Background(), bytes.NewReader(testArchive("old")), "", ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Commit(context.Background(), base, fixedChanges(addedFile("f", "old")), CommitOptions{Ref: "app"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// state describes a store by its images and the layers that are unpacked.
func state(t testing.TB, s *Store) string {
	t.Helper()
	images, err := s.Images()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, img := range images {
		line := fmt.Sprint(img.Names)
		for _, l := range img.Layers {
			line += fmt.Sprint(" ", l.DiffID.Encoded()[:8], s.layerDir(l) != "")
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestCrash kills an operation at every failpoint: what is found afterwards is
// the old state or the new one, and nothing else.
func TestCrash(t *testing.T) {
	for _, c := range crashPoints {
		s := crashStore(t)
		old := state(t, s)
		if out, err := runChild(t, c.op, s.Root(), ""); err != nil {
			t.Fatalf("%s: %v\n%s", c.op, err, out)
		}
		after := state(t, s)
		if old == after {
			t.Fatalf("%s changes nothing", c.op)
		}
		for i, point := range slices.Concat(c.before, c.committed) {
			want := old
			if i >= len(c.before) {
				want = after
			}
			t.Run(c.op+"/"+point, func(t *testing.T) { crash(t, c.op, point, want) })
		}
	}
}

func crash(t *testing.T, op, point, want string) {
	s := crashStore(t)
	if out, err := runChild(t, op, s.Root(), point); !killed(err) {
		t.Fatalf("was not killed: %v\n%s", err, out)
	}
	// A check without recovery sees that something is left.
	if r, err := s.Check(context.Background(), false); err != nil || len(r.Problems) == 0 {
		t.Errorf("a check before recovery finds %+v, %v", r, err)
	}
	// The recovery may be killed as well, if it has anything to remove.
	if out, err := runChild(t, "open", s.Root(), "recover.discarded"); err != nil && !killed(err) {
		t.Fatalf("recovery: %v\n%s", err, out)
	}
	s, err := Open(s.Root())
	if err != nil {
		t.Fatal(err)
	}
	requireClean(t, s)
	if got := state(t, s); got != want {
		t.Errorf("state\n%s\nwant\n%s", got, want)
	}
	images, err := s.Images()
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		if tree := layerTree(t, s, img); len(tree) < 2 {
			t.Errorf("image %v is unpacked as %+v", img.Names, tree)
		}
	}
	requireClean(t, s)
}

// TestFailure makes every failpoint return an error instead: the operation
// says so, and the store is whole.
func TestFailure(t *testing.T) {
	for _, c := range crashPoints {
		for _, point := range slices.Concat(c.before, c.committed) {
			t.Run(c.op+"/"+point, func(t *testing.T) {
				s := crashStore(t)
				out, err := runChild(t, c.op, s.Root(), point+":error")
				if err == nil || killed(err) || !strings.Contains(string(out), "failpoint "+point) {
					t.Fatalf("error %v\n%s", err, out)
				}
				if s, err = Open(s.Root()); err != nil {
					t.Fatal(err)
				}
				requireClean(t, s)
			})
		}
	}
}

// churn uses a store in all ways at once. Another process may remove what this
// one looks for, and nothing else may go wrong.
func churn(s *Store, id int) error {
	ctx := context.Background()
	for i := range 12 {
		name := fmt.Sprintf("img%d", i%3)
		archive := testArchive(fmt.Sprint(i % 4))
		img, err := s.Import(ctx, bytes.NewReader(archive), name, ImportOptions{})
		if err != nil {
			if errors.Is(err, ErrNotFound) {
				continue // removed between its publication and the look at it
			}
			return err
		}
		child, err := s.Commit(ctx, img, fixedChanges(addedFile("g", fmt.Sprint(i))), CommitOptions{Ref: name})
		if err == nil {
			_, err = s.Layers(ctx, child)
		}
		if err == nil {
			err = s.Tag(name, fmt.Sprintf("%s:%d", name, id))
		}
		if err == nil {
			_, err = s.Remove(name, RemoveOptions{Force: true})
		}
		if err == nil {
			_, err = s.GC(ctx)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		if _, err := s.Images(); err != nil {
			return err
		}
	}
	return nil
}

// TestTwoProcesses has processes and goroutines use one store at once.
func TestTwoProcesses(t *testing.T) {
	s := newStore(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if out, err := runChild(t, "churn", s.Root(), ""); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Go(func() {
		if err := churn(s, 0); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	if left, err := names(s.path("tmp")); err != nil || len(left) > 0 {
		t.Errorf("left in tmp: %q, %v", left, err)
	}
	requireClean(t, s)
}

// TestLeftoverOfLiving: a session that lives is not cleared away.
func TestLeftoverOfLiving(t *testing.T) {
	s := newStore(t)
	session, err := s.begin("import")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.Root()); err != nil {
		t.Fatal(err)
	}
	if !exists(session.dir) {
		t.Error("the directory of a living session is gone")
	}
	if _, err := os.Stat(filepath.Join(s.Root(), "lock")); err != nil {
		t.Error(err)
	}
	session.end()
	requireClean(t, s)
}

// TestTidy clears away after the dead, and only after them; it waits for nobody.
func TestTidy(t *testing.T) {
	s := newStore(t)
	living, release, err := s.Scratch("build")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	dead := s.path("tmp", "build-dead")
	if err := os.MkdirAll(filepath.Join(dead, "secret"), 0o700); err != nil {
		t.Fatal(err)
	}
	unlock, err := s.lockShared()
	if err != nil {
		t.Fatal(err)
	}
	Tidy(s.Root())
	unlock()
	if !exists(dead) {
		t.Error("it changes a store that is in use")
	}
	Tidy(s.Root())
	if exists(dead) || !exists(living) {
		t.Errorf("the dead one's directory is there: %t, the living one's: %t", exists(dead), exists(living))
	}
	Tidy(filepath.Join(s.Root(), "none"))
	if exists(s.path("none")) {
		t.Error("it makes a store")
	}
}

// TestLeftoverShut: directories that nobody may write, and ones that nobody may open, do not shut the store.
func TestLeftoverShut(t *testing.T) {
	testenv.Unprivileged(t)
	s := newStore(t)
	shut := func(dir string) string {
		t.Helper()
		sub := filepath.Join(dir, "sub")
		if err := os.MkdirAll(filepath.Join(sub, "in"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(sub, 0o555); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	dir, release, err := s.Scratch("build")
	if err != nil {
		t.Fatal(err)
	}
	shut(dir)
	release()
	if exists(dir) {
		t.Error("a directory is left that its owner has released")
	}
	dead := shut(s.path("tmp", "build-dead"))
	closed := s.path("tmp", "build-closed") // as another user's
	if err := os.Mkdir(closed, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Chmod(closed, 0o700) })
	if _, err := Open(s.Root()); err != nil {
		t.Fatal(err)
	}
	if exists(dead) {
		t.Error("a directory is left whose process is gone")
	}
}
