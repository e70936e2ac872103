package layerstore

import (
	"os/user"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// The store is in the home directory, also where nothing in the environment says which that is.
func TestDefaultRoot(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", "")
	t.Setenv("HOME", "/somewhere")
	if got, err := DefaultRoot(); err != nil || got != "/somewhere/.local/share/mica" {
		t.Errorf("with HOME: %s, %v", got, err)
	}
	u, err := user.LookupId(strconv.Itoa(unix.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", "")
	if got, err := DefaultRoot(); err != nil || got != filepath.Join(u.HomeDir, ".local/share/mica") {
		t.Errorf("without HOME: %s, %v", got, err)
	}
}
