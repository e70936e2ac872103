package fs_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
)

// TestServerNearItsClient has one thread send many requests: a worker of the
// server then runs on that thread's processor alone. When they come from many
// threads in turn, it runs anywhere again.
func TestServerNearItsClient(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("there is one processor only, so client and server are near anyway")
	}
	m := mountUnion(t, cow.Config{Lowers: real(lowers(t, 1)...)})
	oneThread := func(n int) {
		runtime.LockOSThread() // and never unlocked: each call has a thread of its own
		for range n {
			var st unix.Statx_t
			if err := unix.Statx(unix.AT_FDCWD, m.dir, unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st); err != nil {
				t.Error(err)
				return
			}
		}
	}
	await := func(n int) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			oneThread(n)
		}()
		<-done
	}
	// A machine that is busy may hold the thread up between two requests.
	bound := 0
	for try := 0; bound == 0 && try < 100; try++ {
		await(300)
		bound = m.boundThreads()
	}
	if bound == 0 {
		t.Error("no thread of the server was bound to the client's processor")
	}
	for range 40 {
		await(1)
	}
	if n := m.boundThreads(); n != 0 {
		t.Errorf("%d threads of the server are still bound after requests of 40 threads", n)
	}
}

// boundThreads counts the threads of the server that may run on one processor
// only.
func (m *mount) boundThreads() int {
	m.t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", m.server.Process.Pid))
	must(m.t, err)
	n := 0
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that has ended
		}
		_, allowed, _ := bytes.Cut(text, []byte("\nCpus_allowed_list:"))
		line, _, _ := bytes.Cut(allowed, []byte("\n"))
		if !strings.ContainsAny(string(line), ",-") {
			n++
		}
	}
	return n
}

// TestCompanionEnds looks for companion processes while a mount is busy, and
// after it is gone.
func TestCompanionEnds(t *testing.T) {
	m := mountUnion(t, cow.Config{Lowers: real(lowers(t, 1)...)})
	server := m.server.Process.Pid
	var st unix.Statx_t
	for range 2000 {
		must(t, unix.Statx(unix.AT_FDCWD, m.dir, unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st))
	}
	before := companions(t, server)
	m.stop()
	for _, pid := range before {
		deadline := time.Now().Add(30 * time.Second) // it gives way to everybody, and needs a processor to end
		for unix.Kill(pid, 0) != unix.ESRCH {
			if time.Now().After(deadline) {
				t.Fatalf("companion %d has outlived its server", pid)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// companions are the children of a process.
func companions(t *testing.T, of int) []int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", of))
	must(t, err)
	var all []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that has ended
		}
		for _, f := range strings.Fields(string(text)) {
			var pid int
			if _, err := fmt.Sscan(f, &pid); err != nil {
				t.Fatal(err)
			}
			all = append(all, pid)
		}
	}
	return all
}

// execVariable has the test's executable write to the file that it names, and execute itself with the file open and dirty.
const execVariable = "MICA_TEST_EXEC"

// execDirty does that as often as a second variable says. It returns only if something fails.
func execDirty(path string) error {
	left, err := strconv.Atoi(os.Getenv(execVariable + "_LEFT"))
	if err != nil {
		return err
	}
	if left == 0 {
		os.Exit(0)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	for range left % 7 { // requests that come one close after the other
		var st unix.Statx_t
		if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt([]byte("x"), int64(left)); err != nil {
		return err
	}
	if err := os.Setenv(execVariable+"_LEFT", strconv.Itoa(left-1)); err != nil {
		return err
	}
	return unix.Exec("/proc/self/exe", os.Args, os.Environ())
}

// TestExecWithDirtyFiles: the kernel writes back in the middle of execve(2), while nobody may look at the process.
func TestExecWithDirtyFiles(t *testing.T) {
	m := mountUnion(t, cow.Config{Lowers: real(lowers(t, 1)...)})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Env = append(os.Environ(), execVariable+"="+filepath.Join(m.dir, "f"), execVariable+"_LEFT=100")
	cmd.Cancel = m.server.Process.Kill // the client cannot be killed while it waits for the server
	if out, err := cmd.CombinedOutput(); err != nil || ctx.Err() != nil {
		t.Errorf("%v, %v\n%s", err, ctx.Err(), out)
	}
}
