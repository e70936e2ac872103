package fs_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
)

// passing mounts a union with passthrough over a layer with a small and a large
// file.
func passing(t *testing.T) *mount {
	t.Helper()
	base := tempDir(t)
	for _, sub := range []string{"lower", "upper", "work", "merged"} {
		must(t, os.Mkdir(filepath.Join(base, sub), 0o755))
	}
	must(t, os.WriteFile(filepath.Join(base, "lower/small"), []byte("lower"), 0o644))
	must(t, os.WriteFile(filepath.Join(base, "lower/large"), bytes.Repeat([]byte("0123456789abcdef"), 1<<16), 0o644))
	m := &mount{
		t: t, dir: filepath.Join(base, "merged"), pass: true, stats: filepath.Join(base, "stats"),
		cfg: cow.Config{
			Lowers: real(filepath.Join(base, "lower")), Upper: filepath.Join(base, "upper"), Work: filepath.Join(base, "work"),
			UpperOwners: cow.OwnersReal, CopyUp: cow.CopyUpBlocks,
		},
	}
	m.start()
	t.Cleanup(m.close)
	return m
}

// ended stops the mount and tells what its server has done.
func (m *mount) ended() (did fs.Stats) {
	m.t.Helper()
	m.stop()
	raw, err := os.ReadFile(m.stats)
	must(m.t, err)
	must(m.t, json.Unmarshal(raw, &did))
	return did
}

// TestAsRootPassthrough: the content of new files does not come to the server
// where it has the privilege, and without it everything is as always.
func TestAsRootPassthrough(t *testing.T) {
	m := passing(t)
	path := filepath.Join(m.dir, "new")
	data := bytes.Repeat([]byte("some content "), 100_000)
	must(t, os.WriteFile(path, data, 0o644))
	got, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Error("what was written is not what is read")
	}
	count := m.ended().Requests
	moved := count["READ"] + count["WRITE"]
	if passes := moved == 0 && count["OPEN"] == 1; passes != fs.CanPass() {
		t.Errorf("with the privilege %v: requests %v", fs.CanPass(), count)
	}
	got, err = os.ReadFile(filepath.Join(m.cfg.Upper, "new"))
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Error("the upper has something else")
	}
}

// TestAsRootPassthroughReaders: who has a lower file open sees what is written
// to it, and its attributes, however it is written.
func TestAsRootPassthroughReaders(t *testing.T) {
	for _, name := range []string{"small", "large"} {
		t.Run(name, func(t *testing.T) {
			m := passing(t)
			path := filepath.Join(m.dir, name)
			reader, err := os.Open(path)
			must(t, err)
			defer reader.Close()
			buf := make([]byte, 4)
			sees := func(want string) {
				t.Helper()
				_, err := reader.ReadAt(buf, 0)
				must(t, err)
				if string(buf) != want {
					t.Errorf("the reader sees %q, want %q", buf, want)
				}
			}
			_, err = reader.ReadAt(buf, 0)
			must(t, err)
			w, err := os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			_, err = w.WriteAt([]byte("NEW!"), 0)
			must(t, err)
			sees("NEW!")
			must(t, w.Close())
			must(t, reader.Close())
			// Now nobody has it open; the small one lies in the upper as a whole.
			w, err = os.OpenFile(path, os.O_RDWR, 0)
			must(t, err)
			defer w.Close()
			reader, err = os.Open(path)
			must(t, err)
			defer reader.Close()
			sees("NEW!")
			p, err := unix.Mmap(int(w.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			must(t, err)
			copy(p, "map.")
			must(t, unix.Msync(p, unix.MS_SYNC))
			must(t, unix.Munmap(p))
			sees("map.")
			must(t, w.Truncate(4))
			if st, err := reader.Stat(); err != nil || st.Size() != 4 {
				t.Errorf("after a truncation: %v, %v", st, err)
			}
			_, err = w.WriteAt([]byte("and more"), 4)
			must(t, err)
			if st, err := reader.Stat(); err != nil || st.Size() != 12 {
				t.Errorf("after a write: %v, %v", st, err)
			}
			must(t, os.Remove(path))
			sees("map.")
		})
	}
}

// TestAsRootSameAsPlainDirectory is TestSameAsPlainDirectory with passthrough.
func TestAsRootSameAsPlainDirectory(t *testing.T) { sameAsPlainDirectory(t, 2, true) }
