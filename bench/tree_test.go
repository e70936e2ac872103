package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
)

func TestSyntheticRootHasItsShape(t *testing.T) {
	sc := fullScale()
	files, dirs := 0, 0
	for _, e := range syntheticRoot(sc) {
		if e.mode.IsDir() {
			dirs++
		} else {
			files++
		}
	}
	if files < sc.RootFiles*9/10 || files > sc.RootFiles*11/10 || dirs < sc.RootDirs*9/10 || dirs > sc.RootDirs*11/10 {
		t.Errorf("got %d files and %d directories, want about %d and %d", files, dirs, sc.RootFiles, sc.RootDirs)
	}
}

func TestFixturesAreDeterministic(t *testing.T) {
	tk := &task{Scale: scale{RootFiles: 200, RootDirs: 40, RootLayers: 3}}
	var sums [2]string
	for i := range sums {
		dir := filepath.Join(t.TempDir(), "fixture")
		if err := makeFixture(dir, "root", tk); err != nil {
			t.Fatal(err)
		}
		f, ok := openFixture(dir, "root", tk)
		if !ok || f.layers != 3 {
			t.Fatalf("the fixture cannot be opened: %+v", f)
		}
		var err error
		if sums[i], err = treeSum(f.flat()); err != nil {
			t.Fatal(err)
		}
	}
	if sums[0] != sums[1] {
		t.Errorf("two fixtures of one kind differ: %s and %s", sums[0], sums[1])
	}
	other := *tk
	other.Scale.RootFiles = 201
	if _, ok := openFixture(filepath.Join(t.TempDir(), "fixture"), "root", &other); ok {
		t.Error("a fixture was opened where there is none")
	}
}

func TestCopyTreeIsEqual(t *testing.T) {
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	entries := syntheticRoot(scale{RootFiles: 100, RootDirs: 30})
	if err := writeTree(from, -1, entries); err != nil {
		t.Fatal(err)
	}
	if err := copyTree(from, to); err != nil {
		t.Fatal(err)
	}
	a, err := treeSum(from)
	if err != nil {
		t.Fatal(err)
	}
	b, err := treeSum(to)
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Errorf("the copy differs: %s and %s", a, b)
	}
}

func TestRemoveTreeEntersClosedDirectories(t *testing.T) {
	root := filepath.Join(t.TempDir(), "root")
	if err := os.MkdirAll(filepath.Join(root, "work", "work", "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "work", "work"), 0); err != nil {
		t.Fatal(err)
	}
	if err := removeTree(root); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(root); !os.IsNotExist(err) {
		t.Errorf("the tree is still there: %v", err)
	}
}

func TestExitProgramExits(t *testing.T) {
	for _, code := range []byte{0, 1, 7} {
		program, err := exitProgram(runtime.GOARCH, code)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "program")
		if err := os.WriteFile(name, program, 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(name)
		_ = cmd.Run() // the exit code is what is looked at
		if got := cmd.ProcessState.ExitCode(); got != int(code) {
			t.Errorf("got exit code %d, want %d", got, code)
		}
	}
}

func TestLineSumIgnoresOrderAndChunks(t *testing.T) {
	var a, b lineSum
	for _, s := range []string{"one\ntw", "o\nthree\n"} {
		if _, err := a.Write([]byte(s)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Write([]byte("three\none\ntwo\n")); err != nil {
		t.Fatal(err)
	}
	if a.lines != 3 || a.lines != b.lines || a.sum != b.sum {
		t.Errorf("got %+v and %+v", a, b)
	}
}

// TestLayersKeepModes: a directory has its mode in every layer that has it, so
// that all unions show what the plain directory does.
func TestLayersKeepModes(t *testing.T) {
	root, dir := filepath.Join(t.TempDir(), "root"), filepath.Join(t.TempDir(), "fixture")
	modes := map[string]os.FileMode{"open": 0o777, "usual": 0o755, "usual/own": 0o700}
	for _, name := range []string{"open", "usual", "usual/own"} {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const layers = 3
	for name, mode := range modes {
		for i := range 20 {
			if err := os.WriteFile(filepath.Join(root, name, "file"+strconv.Itoa(i)), []byte(name), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(filepath.Join(root, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := makeFixture(dir, "root", &task{RootDir: root, Scale: scale{RootLayers: layers}}); err != nil {
		t.Fatal(err)
	}
	for _, tree := range []string{"flat", "l0", "l1", "l2"} {
		for name, mode := range modes {
			st, err := os.Stat(filepath.Join(dir, tree, name))
			if err != nil {
				t.Errorf("with 20 files spread over %d layers: %v", layers, err)
			} else if st.Mode().Perm() != mode {
				t.Errorf("%s has mode %o in %s, want %o", name, st.Mode().Perm(), tree, mode)
			}
		}
	}
}
