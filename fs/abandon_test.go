package fs_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
)

// TestAbandon: a file that is open keeps a mount alive that has no place any
// more, until the server gives it up.
func TestAbandon(t *testing.T) {
	m := mountUnion(t, cow.Config{})
	path := filepath.Join(m.dir, "file")
	must(t, os.WriteFile(path, []byte("text"), 0o644))
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	ended := make(chan error, 1)
	server := m.server
	m.server = nil // the end is not that of stop
	must(t, fs.Unmount(m.dir))
	if text, err := io.ReadAll(f); err != nil || string(text) != "text" {
		t.Errorf("without a place: %q, %v", text, err)
	}
	go func() { ended <- server.Wait() }()
	must(t, server.Process.Signal(unix.SIGUSR1))
	if err := <-ended; err != nil || m.stderr.Len() > 0 {
		t.Errorf("serve: %v\n%s", err, m.stderr.String())
	}
	if _, err := f.Stat(); err == nil {
		t.Error("a file without a server answers")
	}
	if text, err := os.ReadFile(filepath.Join(m.upper(), "file")); err != nil || string(text) != "text" {
		t.Errorf("the upper has %q, %v", text, err)
	}
}
