package volume

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

// TestTidy clears away what was left by processes that died, and leaves what others are at.
func TestTidy(t *testing.T) {
	d := Open(filepath.Join(t.TempDir(), "volumes"))
	v, err := d.Create("stays", nil)
	must(t, err)
	hour := time.Now().Add(-time.Hour)
	for _, name := range []string{gonePrefix + "left", gonePrefix + "busy", stagePrefix + "left", stagePrefix + "young"} {
		must(t, os.MkdirAll(filepath.Join(d.path, name, dataDir), 0o700))
		if name != stagePrefix+"young" {
			must(t, os.Chtimes(filepath.Join(d.path, name), hour, hour))
		}
	}
	claim, err := claimTree(filepath.Join(d.path, gonePrefix+"busy"))
	must(t, err)
	defer claim.Close()
	must(t, d.Tidy(os.RemoveAll))
	entries, err := os.ReadDir(d.path)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{gonePrefix + "busy", stagePrefix + "young", v.Name}; !slices.Equal(names, want) {
		t.Errorf("there are %q, want %q", names, want)
	}
}

// TestRemoveCutOff: what a removal that failed has left is removed later.
func TestRemoveCutOff(t *testing.T) {
	d := Open(filepath.Join(t.TempDir(), "volumes"))
	v, err := d.Create("v", nil)
	must(t, err)
	if err := d.Remove(v, func() error { return nil }, func(string) error { return os.ErrPermission }); err == nil {
		t.Fatal("the removal succeeded")
	}
	if _, err := d.Create("v", nil); err != nil {
		t.Errorf("the name is not free: %v", err)
	}
	must(t, d.Tidy(os.RemoveAll))
	if entries, err := os.ReadDir(d.path); err != nil || len(entries) != 1 {
		t.Errorf("%d entries are left, %v", len(entries), err)
	}
}

// TestRemoveWhileTaken: a removal waits for those who are about to use a volume.
func TestRemoveWhileTaken(t *testing.T) {
	d := Open(filepath.Join(t.TempDir(), "volumes"))
	v, err := d.Create("", nil)
	must(t, err)
	release, err := d.Use()
	must(t, err)
	var used atomic.Bool
	removed := make(chan error)
	go func() {
		removed <- d.Remove(v, func() error {
			if used.Load() {
				return ErrInUse
			}
			return nil
		}, os.RemoveAll)
	}()
	if _, err := d.Get(v.Name); err != nil {
		t.Error(err)
	}
	used.Store(true)
	release()
	if err := <-removed; !errors.Is(err, ErrInUse) {
		t.Errorf("the removal: %v", err)
	}
	must(t, d.Remove(v, func() error { return nil }, os.RemoveAll))
}

// TestDamagedRecord: a volume whose record is lost still has its data.
func TestDamagedRecord(t *testing.T) {
	d := Open(filepath.Join(t.TempDir(), "volumes"))
	v, err := d.Create("v", nil)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(d.path, "v", recordName), nil, 0o600))
	list, err := d.List()
	must(t, err)
	if len(list) != 1 || list[0].Name != "v" || list[0].Data != v.Data {
		t.Errorf("%+v", list)
	}
}

// TestRemovedByHand: what other means have deleted half-way is a volume as long as it has content, and else in nobody's way.
func TestRemovedByHand(t *testing.T) {
	dir := t.TempDir()
	d := Open(dir)
	v, err := d.Create("half", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "half", recordName)); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Get("half"); err != nil || got.Data != v.Data {
		t.Errorf("without a record: %+v, %v", got, err)
	}
	if err := os.Remove(v.Data); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "half", "lock"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Get("half"); !errors.Is(err, ErrNotFound) {
		t.Errorf("without content: %v", err)
	}
	if _, err := d.Ensure("half"); err != nil {
		t.Error(err)
	}
	if _, err := d.Create("half", nil); !errors.Is(err, ErrExists) {
		t.Errorf("made twice: %v", err)
	}
}
