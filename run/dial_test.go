package run

import (
	"path/filepath"
	"testing"
	"time"

	"mica/run/control"
	"mica/run/record"
)

// TestDialStarting: a container that is said to run, and has no socket yet, is waited for.
func TestDialStarting(t *testing.T) {
	d, err := record.Open(filepath.Join(t.TempDir(), "containers"))
	if err != nil {
		t.Fatal(err)
	}
	c, lock, err := d.Create(&record.Config{Name: "starting"})
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	c.State.Status = record.Running
	if err := c.WriteState(); err != nil {
		t.Fatal(err)
	}
	listening := make(chan error)
	go func() {
		time.Sleep(20 * time.Millisecond)
		l, err := control.Listen(c.Path())
		listening <- err
		if err == nil {
			defer l.Close()
			_, _ = l.Accept()
		}
	}()
	seen, err := d.Find("starting")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dial(seen)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if err := <-listening; err != nil {
		t.Error(err)
	}
}
