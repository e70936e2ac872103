package record

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func open(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), "containers"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func create(t *testing.T, d *Dir, name string) (*Container, *Lock) {
	t.Helper()
	c, lock, err := d.Create(&Config{Name: name, Created: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lock.Release)
	return c, lock
}

func TestFind(t *testing.T) {
	d := open(t)
	a, _ := create(t, d, "alpha")
	create(t, d, "beta")
	for _, ref := range []string{"alpha", a.ID(), a.ID()[:12]} {
		c, err := d.Find(ref)
		if err != nil || c.ID() != a.ID() {
			t.Errorf("%q: %v, %v", ref, c, err)
		}
	}
	for _, ref := range []string{"gamma", "", "..", "names", "/", "alph", strings.Repeat("0", 65)} {
		if _, err := d.Find(ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestNamesAreUnique(t *testing.T) {
	d := open(t)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			_, lock, err := d.Create(&Config{Name: "web"})
			if err == nil {
				lock.Release()
			}
			errs[i] = err
		})
	}
	wg.Wait()
	made := 0
	for _, err := range errs {
		if err == nil {
			made++
		} else if !errors.Is(err, ErrNameInUse) {
			t.Error(err)
		}
	}
	if list, err := d.List(); made != 1 || err != nil || len(list) != 1 {
		t.Fatalf("%d made, %d there, %v", made, len(list), err)
	}
	entries, err := os.ReadDir(d.Path())
	if err != nil || len(entries) != 2 { // the container and names
		t.Fatalf("left behind: %v, %v", entries, err)
	}
}

func TestRename(t *testing.T) {
	d := open(t)
	a, _ := create(t, d, "first")
	create(t, d, "taken")
	if err := d.Rename(a, "taken"); !errors.Is(err, ErrNameInUse) {
		t.Errorf("to a taken name: %v", err)
	}
	if err := d.Rename(a, "second"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find("first"); !errors.Is(err, ErrNotFound) {
		t.Errorf("by the old name: %v", err)
	}
	if c, err := d.Find("second"); err != nil || c.ID() != a.ID() {
		t.Errorf("by the new name: %v", err)
	}
	create(t, d, "first")
}

// TestRenameTogether: of those who rename a container at the same time one is the last, and no other name leads to it.
func TestRenameTogether(t *testing.T) {
	d := open(t)
	c, _ := create(t, d, "first")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			seen, err := d.Find(c.ID())
			if err == nil {
				err = d.Rename(seen, fmt.Sprint("name-", i))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen, err := d.Find(c.ID())
	if err != nil {
		t.Fatal(err)
	}
	if byName, err := d.Find(seen.Config.Name); err != nil || byName.ID() != c.ID() {
		t.Errorf("by its name %s: %v", seen.Config.Name, err)
	}
	if got := namesIn(t, d); !slices.Equal(got, []string{seen.Config.Name}) {
		t.Errorf("its name is %s, and there are %q", seen.Config.Name, got)
	}
}

// TestTidyNames: names that a crash has left go.
func TestTidyNames(t *testing.T) {
	d := open(t)
	c, _ := create(t, d, "real")
	for name, id := range map[string]string{"nowhere": NewID(), "before": c.ID()} {
		if err := d.link(name, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Tidy(func(*Config) {}); err != nil {
		t.Fatal(err)
	}
	if got := namesIn(t, d); !slices.Equal(got, []string{"real"}) {
		t.Errorf("there are %q", got)
	}
}

func namesIn(t *testing.T, d *Dir) (list []string) {
	t.Helper()
	links, err := os.ReadDir(filepath.Join(d.Path(), namesDir))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		list = append(list, l.Name())
	}
	return list
}

// The lock is what tells a running container from one whose supervisor died.
func TestDead(t *testing.T) {
	d := open(t)
	c, lock := create(t, d, "web")
	c.State.Status = Running
	if err := c.WriteState(); err != nil {
		t.Fatal(err)
	}
	seen, err := d.Find("web")
	if err != nil || seen.State.Status != Running {
		t.Fatalf("while held: %v, %v", seen, err)
	}
	if _, err := seen.Lock(); !errors.Is(err, ErrLocked) {
		t.Fatalf("second lock: %v", err)
	}
	lock.Release()
	if err := seen.Refresh(); err != nil || seen.State.Status != Dead {
		t.Fatalf("after release: %v, %v", seen.State.Status, err)
	}
}

func TestTidy(t *testing.T) {
	d := open(t)
	keep, _ := create(t, d, "keep")
	c, lock, err := d.Create(&Config{Name: "once", Host: HostConfig{AutoRemove: true}})
	if err != nil {
		t.Fatal(err)
	}
	c.State.Status = Running
	if err := c.WriteState(); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(d.Path(), gonePrefix+NewID())
	stale := filepath.Join(d.Path(), newPrefix+NewID())
	young := filepath.Join(d.Path(), newPrefix+NewID())
	for _, dir := range []string{gone, stale, young} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(stale, old, old); err != nil {
		t.Fatal(err)
	}
	if err := d.Tidy(func(*Config) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find("once"); err != nil {
		t.Errorf("removed while it ran: %v", err)
	}
	lock.Release() // the supervisor dies
	if err := d.Tidy(func(*Config) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find("once"); !errors.Is(err, ErrNotFound) {
		t.Errorf("still there after its supervisor died: %v", err)
	}
	if _, err := d.Find(keep.Config.Name); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]bool{gone: false, stale: false, young: true} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: there is %v", filepath.Base(path), err == nil)
		}
	}
}

// TestTidyUnfinished: a directory without a configuration goes, but for what a container may have written.
func TestTidyUnfinished(t *testing.T) {
	old := time.Now().Add(-time.Hour)
	for _, k := range []struct {
		name              string
		staged            string // what the configuration in the making holds; empty: there is none
		written, toRemove bool
		kept, whole       bool
	}{
		{name: "begun"},
		{name: "cut", staged: `{"Name":`},
		{name: "complete", staged: "all"},
		{name: "complete-rm", staged: "all", toRemove: true},
		{name: "written", written: true, kept: true},
		{name: "written-complete", staged: "all", written: true, kept: true, whole: true},
	} {
		d := open(t)
		c, lock, err := d.Create(&Config{Name: k.name, Host: HostConfig{AutoRemove: k.toRemove}})
		if err != nil {
			t.Fatal(err)
		}
		lock.Release()
		config := filepath.Join(c.Path(), "config.json")
		content, err := os.ReadFile(config)
		if k.staged != "all" {
			content = []byte(k.staged)
		}
		if err == nil && k.staged != "" {
			err = os.WriteFile(config+".tmp", content, 0o600)
		}
		if err == nil {
			err = os.Remove(config)
		}
		if err == nil && k.written {
			err = os.WriteFile(filepath.Join(c.Upper(), "file"), nil, 0o600)
		}
		if err == nil {
			err = os.Chtimes(c.Path(), old, old)
		}
		if err == nil {
			err = d.Tidy(func(*Config) {})
		}
		if err != nil {
			t.Fatal(err)
		}
		found, err := d.Find(c.ID())
		if (err == nil) != k.kept || err == nil && (found.Broken == nil) != k.whole {
			t.Errorf("%s: found %+v, %v", k.name, found, err)
		}
		if _, err := os.Lstat(c.Path()); (err == nil) != k.kept {
			t.Errorf("%s: its directory is there: %v", k.name, err == nil)
		}
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"web": true, "Web_1.a-b": true, "9x": true, "x": true, "": false, "-x": false, ".x": false, "a/b": false, "a b": false,
		strings.Repeat("n", 255): true, strings.Repeat("n", 256): false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestNamesWithSlash: a name with the slash that Docker shows before it is the name without.
func TestNamesWithSlash(t *testing.T) {
	d := open(t)
	c, lock := create(t, d, "/web")
	lock.Release()
	for _, ref := range []string{"web", "/web"} {
		if found, err := d.Find(ref); err != nil || found.ID() != c.ID() || found.Config.Name != "web" {
			t.Errorf("%s: %+v, %v", ref, found, err)
		}
	}
	if err := d.Rename(c, "/www"); err != nil || c.Config.Name != "www" {
		t.Errorf("renamed to %q, %v", c.Config.Name, err)
	}
	for _, ref := range []string{"/", "//www", "/web", "/" + c.ID()} {
		if found, err := d.Find(ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %+v, %v", ref, found, err)
		}
	}
	if err := CheckName("/a"); err == nil {
		t.Error("a name may have a slash")
	}
}

// TestDamaged: a container whose configuration a failure of the disk has taken is shown, does not stand in the way of
// others, and can be removed.
func TestDamaged(t *testing.T) {
	d := open(t)
	for name, content := range map[string]string{"empty": "", "cut": `{"ID":"`} {
		c, lock := create(t, d, name)
		lock.Release()
		if err := os.WriteFile(filepath.Join(c.Path(), "config.json"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, lock := create(t, d, "whole")
	lock.Release()
	list, err := d.List()
	if err != nil || len(list) != 3 {
		t.Fatalf("%d containers, %v", len(list), err)
	}
	for _, name := range []string{"empty", "cut"} {
		c, err := d.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		if c.Broken == nil || c.Config.Name != name || c.State.Status != Dead || c.State.Error == "" {
			t.Errorf("%s: %v, %+v", name, c.Broken, c.State)
		}
		if byID, err := d.Find(c.ID()[:12]); err != nil || byID.ID() != c.ID() {
			t.Errorf("by its ID: %v", err)
		}
		lock, err := c.Lock()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Remove(lock); err != nil {
			t.Fatal(err)
		}
	}
	if list, err = d.List(); err != nil || len(list) != 1 || list[0].Config.Name != "whole" {
		t.Errorf("after the removal: %d containers, %v", len(list), err)
	}
}
