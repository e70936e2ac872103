package layerstore

import (
	"errors"
	"testing"
	"time"
)

// TestSteps: a commit may bear steps that made no layer, a time, and a key by which it is found again.
func TestSteps(t *testing.T) {
	s := newStore(t)
	base := importTar(t, s, "base", file("a", "a"))
	at := time.Unix(1e9, 0).UTC()
	mid := commitFile(t, s, base, "b", "", CommitOptions{CreatedBy: "make b", Step: "one"})
	top := commitFile(t, s, mid, "c", "top", CommitOptions{
		CreatedBy: "make c", Step: "two", Created: at, Steps: []HistoryEntry{{CreatedBy: "ENV x=1"}, {CreatedBy: "ENV y=2"}},
	})
	if !top.Created.Equal(at) || top.Step != "two" {
		t.Errorf("created %v, step %q", top.Created, top.Step)
	}
	rows, err := s.History(top)
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ id, by string }{
		{top.ID, "make c"}, {missingID, "ENV y=2"}, {missingID, "ENV x=1"}, {mid.ID, "make b"}, {base.ID, ""},
	}
	for i, w := range want {
		if i >= len(rows) || rows[i].ID != w.id || rows[i].CreatedBy != w.by {
			t.Fatalf("row %d of %+v, want %+v", i, rows, w)
		}
	}
	if rows[0].Size != 100 || rows[1].Size != 0 || rows[3].Size != 100 {
		t.Errorf("sizes of %+v", rows)
	}
	for step, want := range map[string]*Image{"one": mid, "two": top} {
		if img, err := s.Built(step); err != nil || img.ID != want.ID {
			t.Errorf("step %s: %v, %v", step, img, err)
		}
	}
	if err := s.Tag(mid.ID, "kept"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove("kept", RemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Built("one"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the step of an image that was removed: %v", err)
	}
	unnamed := func(img *Image) bool { return len(img.Names) == 0 }
	if removed, err := s.Remove(top.ID, RemoveOptions{Force: true, If: unnamed}); err != nil || len(removed) > 0 {
		t.Errorf("an image that has a name by now: removed %v, %v", removed, err)
	}
	if _, err := s.Resolve("top"); err != nil {
		t.Error(err)
	}
	requireClean(t, s)
}
