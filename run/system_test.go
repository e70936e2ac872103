package run

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMissingIDs: what the machine lacks for subordinate ids is said as what to do about it.
func TestMissingIDs(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if got := subordinateIDs(); !strings.HasSuffix(got, "install the package uidmap") {
		t.Errorf("without newuidmap: %q", got)
	}
	for _, name := range []string{"newuidmap", "newgidmap"} {
		if err := os.WriteFile(filepath.Join(os.Getenv("PATH"), name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got := subordinateIDs(); !strings.HasSuffix(got, "ids by newuidmap") && !strings.Contains(got, `root adds one with "usermod --add-subuids`) {
		t.Errorf("with newuidmap: %q", got)
	}
}
