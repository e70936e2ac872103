package ids

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "wait-for-input" {
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestCredentialsAreInheritedAndSeenOutside(t *testing.T) {
	shared := make([]byte, SharedSize)
	table, view := NewTable(New(0, 0, nil, ^uint64(0)), shared), NewView(shared)
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	view.SetProc(proc)
	defer view.Close()
	start := func() (*exec.Cmd, func()) {
		cmd := exec.Command("/proc/self/exe", "wait-for-input")
		in, err := cmd.StdinPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		return cmd, func() { in.Close(); cmd.Wait() }
	}
	before, end := start()
	defer end()
	if _, _, ok := view.Owner(uint32(before.Process.Pid)); ok {
		t.Error("an owner before anybody has changed identity")
	}
	me := New(1000, 1001, []uint32{5, 4}, ^uint64(0))
	if err := table.Set(0, me); err != nil {
		t.Fatal(err)
	}
	child, end := start()
	defer end()
	if err := table.Set(0, table.Base()); err != nil {
		t.Fatal(err)
	}
	got, err := table.Get(child.Process.Pid)
	if err != nil || got != me || !slices.Equal(got.Groups(), []uint32{4, 5}) {
		t.Errorf("child has %+v, %v, want %+v", got, err, me)
	}
	if uid, gid, ok := view.Owner(uint32(child.Process.Pid)); !ok || uid != 1000 || gid != 1001 {
		t.Errorf("files of the child belong to %d:%d, %v", uid, gid, ok)
	}
	for _, pid := range []int{before.Process.Pid, os.Getpid()} {
		if got, err := table.Get(pid); err != nil || got != table.Base() {
			t.Errorf("process %d has %+v, %v", pid, got, err)
		}
		if _, _, ok := view.Owner(uint32(pid)); ok {
			t.Errorf("process %d has an owner", pid)
		}
	}
	if _, _, ok := view.Owner(1 << 30); ok {
		t.Error("a process that does not exist has an owner")
	}
}

func TestTableIsBounded(t *testing.T) {
	table := NewTable(New(0, 0, nil, ^uint64(0)), make([]byte, SharedSize))
	for n := range uint32(maxEntries) {
		if _, err := table.number(New(n+1, 0, nil, ^uint64(0))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := table.number(New(1, 0, nil, ^uint64(0))); err != nil {
		t.Errorf("known credentials: %v", err)
	}
	if _, err := table.number(New(maxEntries+1, 0, nil, ^uint64(0))); err == nil {
		t.Error("one too many was accepted")
	}
}

// TestOpenInPlaceOfAnother: whatever way a path takes through /proc/self, that is the process in whose place it is opened.
func TestOpenInPlaceOfAnother(t *testing.T) {
	r, err := newResolver()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, err := os.Create(dir + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for name, to := range map[string]string{"out": "/dev/stdout", "self": "/proc/self", "near": "file", "loop": "loop", "up": "../" + filepath.Base(dir) + "/file"} {
		if err := os.Symlink(to, dir+"/"+name); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe", "wait-for-input")
	cmd.Dir, cmd.Stdout = "/proc", file
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); cmd.Wait() }()
	const want = "file"
	for _, c := range []struct {
		path  string
		flags int
		want  string
	}{
		{dir + "/file", 0, want}, {dir + "/near", 0, want}, {dir + "/up", 0, want}, {"/dev/stdout", 0, want}, {"/proc/self/fd/1", 0, want},
		{"/proc/thread-self/fd/1", 0, want}, {dir + "/out", 0, want}, {dir + "/self/fd/1", 0, want}, {"self/fd/1", 0, want},
		{"self/cwd/self//fd/1", 0, want}, {"./../proc/self/fd/1", 0, want}, {"/proc/self/root" + dir + "/near", 0, want},
		{dir + "/out", unix.O_NOFOLLOW, "out"}, {"mounts", 0, "mounts"}, {"/proc/self/fd/1/", 0, "ENOTDIR"}, {"self/fd/1", unix.O_DIRECTORY, "ENOTDIR"},
		{dir + "/loop", 0, "ELOOP"}, {"self/root" + dir + "/loop", 0, "ELOOP"}, {"/proc/self/nothing", 0, "ENOENT"}, {"/proc/self/fd/", 0, "fd"},
	} {
		fd, err := r.open(cmd.Process.Pid, unix.AT_FDCWD, c.path, c.flags)
		got := ""
		if err != nil {
			got = unix.ErrnoName(errno(err))
		} else {
			got, _ = os.Readlink(self(fd))
			got = filepath.Base(got)
			unix.Close(fd)
		}
		if got != c.want {
			t.Errorf("%s (flags %#x): %q, want %q", c.path, c.flags, got, c.want)
		}
	}
}

// TestExecsOfTheGone: processes that end while they execute leave nothing behind for ever.
func TestExecsOfTheGone(t *testing.T) {
	r, err := newResolver()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{resolver: r}
	const most, gone = 64, 1 << 30
	for i := range 3 * most {
		s.execs.begin(s, gone+i, &pendingExec{})
		if s.execs.take(os.Getpid()) != nil {
			t.Fatal("another process executes this one's")
		}
	}
	if n := len(s.execs.list); n > most+1 {
		t.Errorf("%d processes that are gone are remembered", n)
	}
	s.execs.begin(s, os.Getpid(), &pendingExec{})
	s.execs.begin(s, gone, nil)
	if s.execs.take(os.Getpid()) == nil || s.execs.take(os.Getpid()) != nil {
		t.Error("what a process executes is to be had once")
	}
}
