package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mica/internal/testenv"
)

// mapVariable names a file that this program is to write to through mapped
// pages; it then waits for its end.
const mapVariable = "MICA_TEST_MAP"

// unnamedVariable says that the file is to have lost the name by which it was
// mapped, and to have another one with this ending.
const unnamedVariable = "MICA_TEST_MAP_UNNAMED"

// mappedPages is how many it writes, each with one line. They are so many that
// the kernel is not done with them before somebody can look.
const mappedPages = 1 << 12

// writeMapped does that.
func writeMapped(path string) error {
	err := testenv.WriteMapped(path, mappedPages, 1, func() error {
		ending := os.Getenv(unnamedVariable)
		if ending == "" {
			return nil
		}
		return errors.Join(os.Link(path, path+ending), os.Remove(path))
	})
	if err != nil {
		return err
	}
	fmt.Println("written")
	time.Sleep(time.Hour)
	return nil
}

// What a program has put into mapped pages and not synced is part of what a
// running container is committed, exported and copied as.
func TestMappedPagesOfRunningContainer(t *testing.T) {
	c := newCLI(t)
	for _, test := range []struct{ userns, user, ending string }{
		{"auto", "root", ""}, {"auto", "web", ""}, {"single", "root", ""}, {"single", "web", ""}, {"auto", "root", ".kept"},
	} {
		c.remove("mapper")
		c.ok("run", "-d", "--userns", test.userns, "-u", test.user, "--name", "mapper", "-v", filepath.Join(shared.dir, "mica")+":/bin/mapper:ro",
			"-e", mapVariable+"=/tmp/ma pped", "-e", unnamedVariable+"="+test.ending, "base", "mapper")
		until(t, "the write", func() bool { return strings.Contains(c.run("logs", "mapper").stdout, "written") })
		c.ok("commit", "mapper", "with-mapped")
		if got := c.ok("run", "--rm", "with-mapped", "sh", "-c", "wc -l <'/tmp/ma pped"+test.ending+"'"); got != strconv.Itoa(mappedPages) {
			t.Errorf("%+v: the image has %s of %d pages", test, got, mappedPages)
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
	if got := bytes.Count(content, []byte("\n")); err != nil || got != mappedPages {
		t.Errorf("the upper of the home directory has %d of %d pages, %v", got, mappedPages, err)
	}
	c.ok("rm", "-f", "home-mapper")
}

// What a program has put into mapped pages and not synced when it ends is there
// when the container has ended, whether it is the main process or another one.
func TestMappedPagesOfEndedContainer(t *testing.T) {
	c := newCLI(t)
	for _, command := range [][]string{{"mapper"}, {"sh", "-c", "mapper & wait"}} {
		c.remove("mapper")
		c.ok(append([]string{"run", "-d", "--name", "mapper", "-v", filepath.Join(shared.dir, "mica") + ":/bin/mapper:ro",
			"-e", mapVariable + "=/srv/mapped", "base"}, command...)...)
		until(t, "the write", func() bool { return strings.Contains(c.run("logs", "mapper").stdout, "written") })
		c.ok("kill", "mapper")
		c.run("wait", "mapper")
		c.ok("commit", "mapper", "with-mapped")
		if got := c.ok("run", "--rm", "with-mapped", "sh", "-c", "wc -l </srv/mapped"); got != strconv.Itoa(mappedPages) {
			t.Errorf("%s: the image has %s of %d pages", command, got, mappedPages)
		}
		c.ok("rm", "-f", "mapper")
		c.ok("rmi", "-f", "with-mapped")
	}
}
