package cow

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// eventful is a machine that starts anew when it is told to, and whose syncs can be waited for.
type eventful struct {
	linux
	boot   int
	onSync func()  // before each one
	fail   []error // what the next ones give
}

func (m *eventful) syncfs(fd int) error {
	if err := m.event(); err != nil {
		return err
	}
	return m.linux.syncfs(fd)
}

func (m *eventful) bootID() (string, error) { return fmt.Sprintf("%032d", m.boot), nil }

func (m *eventful) fsync(fd int) error {
	if err := m.event(); err != nil {
		return err
	}
	return m.linux.fsync(fd)
}

func (m *eventful) fdatasync(fd int) error {
	if err := m.event(); err != nil {
		return err
	}
	return m.linux.fdatasync(fd)
}

func (m *eventful) event() (err error) {
	if m.onSync != nil {
		m.onSync()
	}
	if len(m.fail) > 0 {
		err, m.fail = m.fail[0], m.fail[1:]
	}
	return err
}

// eventfulUnion is a union on such a machine, with lower files f0, f1 and so on that are copied up in blocks.
func eventfulUnion(t *testing.T, files int) (*union, *eventful) {
	t.Helper()
	cfg := layers(t, tree{"there": ""})
	for i := range files {
		must(t, os.WriteFile(filepath.Join(cfg.Lowers[0].Dir, fmt.Sprint("f", i)), []byte(strings.Repeat("x", 1<<20)), 0o644))
	}
	m := &eventful{boot: 1}
	cfg.machine = m
	return open(t, cfg), m
}

// TestHolesSurviveReboot: what fallocate has cut out of a copied-up file does not come back after a clean end and another
// start of the machine, though the file was never looked at again.
func TestHolesSurviveReboot(t *testing.T) {
	for _, mode := range []uint32{unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE} {
		u, m := eventfulUnion(t, 1)
		n, err := u.walk("f0")
		must(t, err)
		err = u.Fallocate(n, mode, 0, 1<<19, false)
		if err == unix.EOPNOTSUPP {
			t.Logf("the disk has no fallocate mode %#x", mode)
			continue
		}
		must(t, err)
		m.boot = 2
		u.reopen()
		if c := u.content("f0"); c[0] != 0 || c[1<<19] != 'x' {
			t.Errorf("mode %#x: the hole begins with %q, what follows it with %q", mode, c[0], c[1<<19])
		}
	}
}

// TestSettlesAgain: a file that is written while it is synced in the background is synced once more later.
func TestSettlesAgain(t *testing.T) {
	u, m := eventfulUnion(t, 1)
	must(t, u.put("f0", "one", 0))
	done := false
	m.onSync = func() {
		if !done {
			done = true
			must(t, u.put("f0", "two", 100_000))
		}
	}
	u.settleAll() // what the timer does
	u.dirtyMu.Lock()
	defer u.dirtyMu.Unlock()
	if !done || len(u.dirty) != 1 {
		t.Fatalf("written during the sync: %v; %d files are dirty", done, len(u.dirty))
	}
	if u.settler == nil {
		t.Error("nothing is going to sync the file")
	}
}

// TestCloseWaits: the end of a union waits for a sync in the background, which needs what it closes.
func TestCloseWaits(t *testing.T) {
	u, m := eventfulUnion(t, 10)
	for i := range 10 {
		must(t, u.put(fmt.Sprint("f", i), "one", 0))
	}
	started, closing, settled := make(chan struct{}), make(chan struct{}), make(chan struct{})
	first := true
	m.onSync = func() {
		if first {
			first = false
			close(started)
			<-closing
		}
	}
	go func() {
		u.settleAll()
		close(settled)
	}()
	<-started
	closed := make(chan error)
	go func() { closed <- u.Close() }()
	for ending := false; !ending; runtime.Gosched() {
		u.dirtyMu.Lock()
		ending = u.closing
		u.dirtyMu.Unlock()
	}
	close(closing)
	must(t, <-closed)
	<-settled
	f := u.FS
	f.dirtyMu.Lock()
	defer f.dirtyMu.Unlock()
	if len(u.dirty) != 0 || u.settler != nil {
		t.Errorf("%d files are dirty after the end", len(u.dirty))
	}
	u.FS = nil
}

// TestRemovedWhileRead: a file that is copied up and loses its last name, in either order, while a read of its lower content
// is under way, can be read and written on.
func TestRemovedWhileRead(t *testing.T) {
	for _, order := range []string{"written, removed", "removed, written"} {
		t.Run(order, func(t *testing.T) {
			u := open(t, layers(t, tree{"f": "hello"}))
			n, err := u.walk("f")
			must(t, err)
			u.tree.RLock()
			reading, err := u.FS.open(n)
			u.tree.RUnlock()
			must(t, err)
			write := func() { must(t, u.Write(n, []byte("world"), 0, false)) }
			if order == "written, removed" {
				write()
				must(t, u.unlink("f"))
			} else {
				must(t, u.unlink("f"))
				write()
			}
			reading.put()
			write()
			buf := make([]byte, 16)
			if size, err := u.Read(n, buf, 0); err != nil || string(buf[:size]) != "world" {
				t.Errorf("%q, %v", buf[:size], err)
			}
			u.Forget(n, 1)
			u.fds.mu.Lock()
			defer u.fds.mu.Unlock()
			if pinned := len(u.layers) + 1; u.fds.open < pinned {
				t.Errorf("%d descriptors are counted", u.fds.open)
			}
		})
	}
}

// TestLargeCopiesHoldNobodyUp: while a file is copied up whole, which may take long, other changes go on, whatever it is
// copied for.
func TestLargeCopiesHoldNobodyUp(t *testing.T) {
	mode := uint32(0o600)
	for name, change := range map[string]func(u *union) error{
		"chmod": func(u *union) error {
			return u.with("large", func(n *Node) error { return u.Setattr(n, SetAttr{Mode: &mode}, nil) })
		},
		"setxattr": func(u *union) error {
			return u.with("large", func(n *Node) error { return u.Setxattr(n, "user.note", []byte("x"), 0, false) })
		},
		"write":    func(u *union) error { return u.put("large", "x", 0) },
		"link":     func(u *union) error { return u.link("large", "other") },
		"rename":   func(u *union) error { return u.rename("large", "other", 0) },
		"exchange": func(u *union) error { return u.rename("small", "large", unix.RENAME_EXCHANGE) },
		"unlink":   func(u *union) error { return u.unlink("large") }, // one of two names
	} {
		t.Run(name, func(t *testing.T) {
			cfg := layers(t, tree{"small": "", "large": strings.Repeat("x", smallFile+1)})
			if name == "unlink" {
				must(t, os.Link(filepath.Join(cfg.Lowers[0].Dir, "large"), filepath.Join(cfg.Lowers[0].Dir, "second")))
			}
			copying, goOn := make(chan struct{}), make(chan struct{})
			first := true
			cfg.CopyUp, cfg.machine = CopyUpFull, &eventful{boot: 1, onSync: func() {
				if first {
					first = false
					close(copying)
					<-goOn
				}
			}}
			u := open(t, cfg)
			n, err := u.walk("large") // the kernel knows what it changes
			must(t, err)
			done := make(chan error)
			go func() { done <- change(u) }()
			<-copying
			other := make(chan error, 1)
			go func() { other <- u.mkdir("meanwhile") }()
			select {
			case err := <-other:
				must(t, err)
			case <-time.After(20 * time.Second):
				t.Error("a directory cannot be made during the copy")
			}
			close(goOn)
			must(t, <-done)
			u.Forget(n, 1)
		})
	}
}

// TestFsyncDuringSync: files that clients sync and forget while all are synced in the background keep their content and
// their identity, whatever takes their names.
func TestFsyncDuringSync(t *testing.T) {
	for _, files := range []int{manySyncs - 6, manySyncs + 4} { // one by one, and together
		u, m := eventfulUnion(t, files)
		for i := range files {
			must(t, u.put(fmt.Sprint("f", i), "one", 0))
		}
		first := true
		m.onSync = func() {
			if !first {
				return
			}
			first = false
			for i := range files {
				name := fmt.Sprint("f", i)
				must(t, u.with(name, func(n *Node) error { return u.Fsync(n, false) }))
				must(t, u.rename(name, "old-"+name, 0))
				must(t, u.put(name, "new", 0))
			}
		}
		must(t, u.Sync())
		u.reopen()
		for i := range files {
			name := fmt.Sprint("f", i)
			if c := u.content("old-" + name); !strings.HasPrefix(c, "onexxx") || len(c) != 1<<20 {
				t.Errorf("%s: %d bytes, %.6q", name, len(c), c)
			}
			if a, b := u.attr(name), u.attr("old-"+name); a.Ino == b.Ino {
				t.Errorf("%s has the inode number of another file", name)
			}
		}
	}
}

// TestSyncErrorReachesClient: that a sync in the background failed is told to the client that syncs next, once, and until
// then nothing is recorded as being on disk.
func TestSyncErrorReachesClient(t *testing.T) {
	u, m := eventfulUnion(t, 1)
	must(t, u.put("f0", "one", 0))
	m.fail = []error{unix.EIO}
	u.settleAll()
	u.settleAll() // leaves it alone
	u.dirtyMu.Lock()
	if len(u.dirty) != 1 || u.settler != nil {
		t.Errorf("%d files are dirty, a further try: %v", len(u.dirty), u.settler != nil)
	}
	u.dirtyMu.Unlock()
	for _, want := range []error{unix.EIO, nil} {
		if err := u.with("f0", func(n *Node) error { return u.Fsync(n, false) }); err != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
}
