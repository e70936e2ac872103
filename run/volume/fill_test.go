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
