package volume

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestFill: a volume is filled once, by one of those who want to, and again if that was cut off.
func TestFill(t *testing.T) {
	v, err := Open(filepath.Join(t.TempDir(), "volumes")).Create("v", nil)
	must(t, err)
	put := func(name string) error { return os.WriteFile(filepath.Join(v.Data, name), nil, 0o600) }
	boom := errors.New("boom")
	if err := v.Fill(func() error { return errors.Join(put("first"), boom) }); !errors.Is(err, boom) {
		t.Errorf("cut off: %v", err)
	}
	var fills, inside int
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			err := v.Fill(func() error {
				fills++
				if inside++; inside != 1 {
					t.Error("filled by two at once")
				}
				defer func() { inside-- }()
				return errors.Join(put("first"), put("second"))
			})
			if err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(filepath.Join(v.Data, "second")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if fills != 1 {
		t.Errorf("filled %d times", fills)
	}
	if _, err := os.Lstat(filepath.Join(filepath.Dir(v.Data), fillingFile)); err == nil {
		t.Error("the mark is left")
	}
}

// TestFillStates: what a process that died, or the machine, may leave beside a volume, and whether that is filled then.
func TestFillStates(t *testing.T) {
	for _, s := range []struct {
		mark    string
		content bool
		fills   bool
	}{
		{mark: "none", content: false, fills: true},
		{mark: "none", content: true, fills: false},
		{mark: "", content: false, fills: true}, // cut off before it was noted
		{mark: "", content: true, fills: false}, // left by one who came too late
		{mark: "begun", content: false, fills: true},
		{mark: "begun", content: true, fills: true},
	} {
		for _, name := range []string{"v", ""} {
			v, err := Open(filepath.Join(t.TempDir(), "volumes")).Create(name, nil)
			must(t, err)
			mark := filepath.Join(filepath.Dir(v.Data), fillingFile)
			if s.mark != "none" {
				must(t, os.WriteFile(mark, []byte(s.mark), 0o600))
			}
			if s.content {
				must(t, os.WriteFile(filepath.Join(v.Data, "file"), nil, 0o600))
			}
			filled := false
			must(t, v.Fill(func() error {
				filled = true
				if noted, err := os.ReadFile(mark); err != nil || string(noted) == "" {
					t.Errorf("%+v: the mark says %q at the beginning: %v", s, noted, err)
				}
				return nil
			}))
			if filled != s.fills {
				t.Errorf("%+v: filled: %t", s, filled)
			}
			if _, err := os.Lstat(mark); err == nil {
				t.Errorf("%+v: the mark is left", s)
			}
		}
	}
}
