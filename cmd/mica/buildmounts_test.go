package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestBuildKilled: the files of a build that was killed go with the next command, whichever that is.
func TestBuildKilled(t *testing.T) {
	c := newCLI(t)
	c.root = filepath.Join(t.TempDir(), "store")
	c.ok("images")
	left := filepath.Join(c.root, "tmp", "build-killed")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(left, "secret-1"), []byte("hush"), 0o400); err != nil {
		t.Fatal(err)
	}
	c.ok("ps", "-a")
	if _, err := os.Lstat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its files are left: %v", err)
	}
}
