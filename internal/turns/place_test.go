package turns

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	AwakeMain()
	os.Exit(m.Run())
}

// TestPlaceFollowsAThread has a thread run on each processor in turn, which the place then has as the only one, until it is
// left.
func TestPlaceFollowsAThread(t *testing.T) {
	p, err := OpenProcesses("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	var here Place
	for cpu := range len(p.all) * 64 {
		if !p.all.IsSet(cpu) {
			continue
		}
		stay, tid := make(chan struct{}), make(chan int)
		go func() {
			runtime.LockOSThread()
			var one unix.CPUSet
			one.Set(cpu)
			if err := unix.SchedSetaffinity(0, &one); err != nil {
				t.Error(err)
			}
			tid <- unix.Gettid()
			<-stay
		}()
		here.Follow(p, uint32(<-tid))
		close(stay)
		if got := affinity(t); got.Count() != 1 || !got.IsSet(cpu) {
			t.Errorf("a thread that follows one on processor %d may run on %d processors, on that one: %v", cpu, got.Count(), got.IsSet(cpu))
		}
	}
	here.Follow(p, 1<<22+1) // there is no such thread
	if got := affinity(t); got.Count() != 1 {
		t.Errorf("after following nobody it may run on %d processors", got.Count())
	}
	here.Leave(p)
	if got := affinity(t); got != p.all {
		t.Errorf("after leaving it may run on %v, want %v", got, p.all)
	}
}

func affinity(t *testing.T) unix.CPUSet {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	return set
}
