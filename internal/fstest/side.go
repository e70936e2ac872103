package fstest

import (
	"path/filepath"
	"runtime/debug"
	"sync"

	"golang.org/x/sys/unix"
)

// side is one of the two directories of a run, with the open files and
// mappings that operations made in it.
type side struct {
	root  string
	slots map[slotKey]*openFile
	maps  map[slotKey]*mapping
	// freshAfter is the time after which a timestamp counts as "now".
	freshAfter int64
}

type slotKey struct{ actor, slot int }

type openFile struct {
	fd  int
	dir *dirStream // of a directory opened for reading
}

// mapping is a mapped part of a file; fd is for asking the file's size.
type mapping struct {
	mem []byte
	off int64
	fd  int
}

func (m *mapping) close() error {
	unix.Close(m.fd)
	return unix.Munmap(m.mem)
}

// clip is the part of off, n in the mapping that lies in the file now. Bytes
// between the end of a file and of its last page are nobody's; whole pages
// beyond the end stay in, for their SIGBUS.
func (m *mapping) clip(off, n int64) []byte {
	from := min(off, int64(len(m.mem)))
	to := min(from+n, int64(len(m.mem)))
	var st unix.Stat_t
	if unix.Fstat(m.fd, &st) != nil {
		return nil
	}
	end := st.Size - m.off
	if page := (end + 4095) &^ 4095; from < page {
		to = max(from, min(to, end))
	}
	return m.mem[from:to]
}

func newSide(root string, freshAfter int64) *side {
	return &side{root: root, slots: map[slotKey]*openFile{}, maps: map[slotKey]*mapping{}, freshAfter: freshAfter}
}

func (s *side) abs(p []byte) string {
	if len(p) == 0 {
		return s.root
	}
	return s.root + "/" + string(p)
}

// closeAll closes every open file and mapping, as a remount needs.
func (s *side) closeAll() {
	for k, m := range s.maps {
		m.close()
		delete(s.maps, k)
	}
	for k, f := range s.slots {
		unix.Close(f.fd)
		delete(s.slots, k)
	}
}

// escapes tells whether a path, or what it links to, leaves the root.
func (s *side) escapes(p []byte) bool {
	if len(p) == 0 {
		return false
	}
	root, err := unix.Open(s.root, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(root)
	return escapesFrom(root, p)
}

// escapesFrom tells whether a path leaves the open directory dir.
func escapesFrom(dir int, p []byte) bool {
	return beneath(dir, string(p)) == unix.EXDEV || beneath(dir, filepath.Dir(string(p))) == unix.EXDEV
}

func beneath(root int, p string) error {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(root, p, &how)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// actor does operations on a thread of its own, with credentials of its own.
type actor struct {
	jobs chan func()
	done sync.WaitGroup
}

func newActor(c Cred) *actor {
	a := &actor{jobs: make(chan func())}
	a.done.Add(1)
	ready := make(chan struct{})
	go func() {
		defer a.done.Done()
		debug.SetPanicOnFault(true) // a mapping beyond the end of a file
		assume(c)                   // locks the thread, which ends with the goroutine
		close(ready)
		for job := range a.jobs {
			job()
		}
	}()
	<-ready
	return a
}

// do runs f on the actor's thread and waits for it.
func (a *actor) do(f func()) {
	done := make(chan struct{})
	a.jobs <- func() { defer close(done); f() }
	<-done
}

func (a *actor) stop() {
	close(a.jobs)
	a.done.Wait()
}
