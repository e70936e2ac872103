package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"mica/fs"
)

// TestMountProgram mounts as Podman calls its mount program, and as a program of the name of fuse-overlayfs.
func TestMountProgram(t *testing.T) {
	newCLI(t) // which puts the program where plain users may look
	must := func(err error) {
		if t.Helper(); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "fuse-overlayfs")
	must(os.Symlink(filepath.Join(shared.dir, "mica"), link))
	for _, program := range []string{filepath.Join(shared.dir, "mica"), link} {
		dir := t.TempDir()
		for _, name := range []string{"lower", "upper", "work", "merged"} {
			must(os.Mkdir(filepath.Join(dir, name), 0o755))
		}
		must(os.WriteFile(filepath.Join(dir, "lower", "file"), []byte("below"), 0o644))
		cmd := exec.Command(program, "-o", "lowerdir="+dir+"/lower,upperdir="+dir+"/upper,workdir="+dir+"/work", dir+"/merged")
		cmd.Env = append(os.Environ(), actAsMica+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", program, err, out)
		}
		content, err := os.ReadFile(filepath.Join(dir, "merged", "file"))
		if err != nil || string(content) != "below" {
			t.Errorf("%s: %q, %v", program, content, err)
		}
		must(fs.Unmount(filepath.Join(dir, "merged")))
	}
}
