package main

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// program runs another program, which must be there and succeed.
func program(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v (Debian package %s): %v\n%s", name, args, name, err, out)
	}
}

// objects describes every object below dir: type, mode, target or content.
func objects(t *testing.T, dir string) map[string]string {
	t.Helper()
	list := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		text := ""
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			text, err = os.Readlink(path)
		case info.Mode().IsRegular():
			var data []byte
			data, err = os.ReadFile(path)
			text = fmt.Sprintf("%d %x", len(data), data[:min(len(data), 64)])
		}
		list[name] = fmt.Sprint(info.Mode(), " ", text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// A committed image that other programs unpack is the tree that a mount shows.
func TestClientsSeeTheMount(t *testing.T) {
	c := newCLI(t)
	c.remove("seen")
	c.ok("run", "--name", "seen", "base", "sh", "-c",
		"echo new > /lower/new; rm /lower/gone; echo more >> /lower/file; chmod 600 /lower/file; mkdir -p /a/b; mv /a /c; ln -s file /lower/link")
	c.ok("commit", "seen", "seen-image")
	t.Cleanup(func() { c.run("rmi", "seen-image") })
	dir := t.TempDir()
	layout, archive := filepath.Join(dir, "layout"), filepath.Join(dir, "image.tar")
	c.ok("save", "-o", archive, "seen-image")
	program(t, "skopeo", "inspect", "oci-archive:"+archive)
	program(t, "skopeo", "copy", "oci-archive:"+archive, "oci:"+layout+":it")
	program(t, "umoci", "unpack", "--rootless", "--image", layout+":it", filepath.Join(dir, "bundle"))
	mount := filepath.Join(dir, "mount")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.run("umount", mount) })
	c.ok("mount", "seen-image", mount)
	theirs, ours := objects(t, filepath.Join(dir, "bundle/rootfs")), objects(t, mount)
	for name, want := range theirs {
		if name != "." && ours[name] != want {
			t.Errorf("%s: umoci has %q, the mount %q", name, want, ours[name])
		}
	}
	for name := range ours {
		if _, ok := theirs[name]; !ok {
			t.Errorf("%s: only in the mount", name)
		}
	}
	if err := exec.Command("chmod", "-R", "u+rwx", filepath.Join(dir, "bundle")).Run(); err != nil {
		t.Error(err)
	}
}
