package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mapVariable names a file that this program is to write to through mapped
// pages; it then waits for its end.
const mapVariable = "MICA_TEST_MAP"

// writeMapped does that.
func writeMapped(path string) error {
	const text = "written through a mapped page\n"
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	if err := f.Truncate(int64(len(text))); err != nil {
		return err
	}
	page, err := unix.Mmap(int(f.Fd()), 0, len(text), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(page, text)
	fmt.Println("written")
	time.Sleep(time.Hour)
	return nil
}

// What a program has put into mapped pages and not synced is part of what a
// running container is committed, exported and copied as.
func TestMappedPagesOfRunningContainer(t *testing.T) {
	c := newCLI(t)
	for _, userns := range []string{"auto", "single"} {
		c.remove("mapper")
		c.ok("run", "-d", "--userns", userns, "--name", "mapper", "-v", filepath.Join(shared.dir, "mica")+":/bin/mapper:ro",
			"-e", mapVariable+"=/srv/mapped", "base", "mapper")
		until(t, "the write", func() bool { return strings.Contains(c.run("logs", "mapper").stdout, "written") })
		c.ok("commit", "mapper", "with-mapped")
		if got := c.ok("run", "--rm", "with-mapped", "cat", "/srv/mapped"); got != "written through a mapped page" {
			t.Errorf("--userns %s: the image has %q", userns, got)
		}
		c.ok("rm", "-f", "mapper")
		c.ok("rmi", "-f", "with-mapped")
	}
}

// The same goes for a copy-on-write home directory.
func TestMappedPagesOfHome(t *testing.T) {
	c := newCLI(t)
	c.env = append(c.env, "HOME="+t.TempDir())
	c.remove("home-mapper")
	c.ok("run", "-d", "--home", "cow", "--name", "home-mapper", "-v", filepath.Join(shared.dir, "mica")+":/bin/mapper:ro",
		"-e", mapVariable+"=mapped", "base", "sh", "-c", "cd && exec mapper")
	until(t, "the write", func() bool { return strings.Contains(c.run("logs", "home-mapper").stdout, "written") })
	if got := c.ok("diff", "--home", "home-mapper"); !strings.Contains(got, "mapped") {
		t.Errorf("diff: %q", got)
	}
	found, err := filepath.Glob(filepath.Join(c.root, "containers", "*", "home-upper", "mapped"))
	if err != nil || len(found) != 1 {
		t.Fatalf("the upper of the home directory has %q, %v", found, err)
	}
	content, err := os.ReadFile(found[0])
	if err != nil || !strings.HasPrefix(string(content), "written through") {
		t.Errorf("the upper of the home directory has %q, %v", content, err)
	}
	c.ok("rm", "-f", "home-mapper")
}
