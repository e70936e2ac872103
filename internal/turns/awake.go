package turns

import (
	"bytes"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where two threads take turns on one of two processors, the other one
// sleeps, and the scheduler likes to wake one of them there. In a virtual
// machine that is a trip through the hypervisor, which takes longer than all
// the rest of a turn. A companion process of the lowest kind (SCHED_IDLE,
// which gives way to everybody at once) keeps the other processor from
// sleeping as long as turns come one close after the other. It is a process
// because a thread of that kind could be left without a processor just when
// the runtime needs it.

const (
	awakeName = "mica-awake"
	// awakeFor is how long it goes on after the last turn.
	awakeFor = time.Millisecond
	// awakeCPUs is how many processors a machine has that gains from it: with
	// more, the scheduler finds one that sleeps anyway.
	awakeCPUs = 2
	// reapTime is how long the end of a companion is waited for: on a busy
	// machine it may take long to get the processor that it needs to end.
	reapTime = 20 * time.Millisecond
	// futexWait and futexWake are FUTEX_WAIT and FUTEX_WAKE.
	futexWait, futexWake = 0, 1
	// awakeFD is where the companion has the shared page.
	awakeFD = 3
)

// vigil is the shared page.
type vigil struct {
	beat   atomic.Uint64 // counts turns
	asleep atomic.Uint32 // the companion waits on it as a futex while it is 1
}

// Companion is the side of it of whoever has it kept awake. The zero value is ready.
type Companion struct {
	asked atomic.Bool
	page  atomic.Pointer[vigil] // nil: it does not run (yet)

	mu   sync.Mutex
	proc *os.Process // guarded by mu
	over bool        // none starts any more; guarded by mu
}

// virtual tells whether this is a virtual machine of the size that gains.
func virtual() bool {
	if runtime.NumCPU() != awakeCPUs {
		return false
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	return err == nil && bytes.Contains(info, []byte(" hypervisor "))
}

// Keep has the companion stay awake from now on for a moment, starting it if need be. The program's main must call
// [AwakeMain]. No thread of it may end before the process does: it could be the companion's parent, which ends with that.
func (c *Companion) Keep() {
	page := c.page.Load()
	if page == nil {
		if !c.asked.Load() && c.asked.CompareAndSwap(false, true) {
			go c.start()
		}
		return
	}
	page.beat.Add(1)
	if page.asleep.Load() != 0 && page.asleep.CompareAndSwap(1, 0) {
		futex(&page.asleep, futexWake, 1)
	}
}

// start starts the companion; where that fails there is none.
func (c *Companion) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || !virtual() {
		return
	}
	fd, err := unix.MemfdCreate(awakeName, unix.MFD_CLOEXEC)
	if err != nil {
		return
	}
	file := os.NewFile(uintptr(fd), awakeName)
	defer file.Close()
	if unix.Ftruncate(fd, int64(os.Getpagesize())) != nil {
		return
	}
	page, err := mapVigil(fd)
	if err != nil {
		return
	}
	// What this process was given by whoever started it is not for the companion, which may live a little longer.
	_ = unix.CloseRange(3, ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC)
	c.proc, err = os.StartProcess("/proc/self/exe", []string{awakeName}, &os.ProcAttr{
		Env: []string{"GOMAXPROCS=1", "GOGC=off"}, Files: []*os.File{nil, nil, nil, file}, Dir: "/",
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true},
	})
	if err == nil {
		c.page.Store(page)
	}
}

// Stop kills the companion. None is started any more.
func (c *Companion) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.proc == nil {
		return
	}
	_ = c.proc.Kill()
	gone := make(chan struct{})
	go func() {
		_, _ = c.proc.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-time.After(reapTime):
	}
}

// AwakeMain is the whole life of a companion process, if this is one: a
// program that uses a Companion calls it first.
func AwakeMain() {
	if os.Args[0] != awakeName {
		return
	}
	// In a container this is a process of the host's program, which nobody there is to look into.
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	var policy struct{ priority int32 }
	_, _, e := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_IDLE, uintptr(unsafe.Pointer(&policy)))
	page, err := mapVigil(awakeFD)
	if e != 0 || err != nil {
		os.Exit(1)
	}
	for {
		last, end := page.beat.Load(), time.Now().Add(awakeFor)
		for now := time.Now(); now.Before(end); now = time.Now() {
			if beat := page.beat.Load(); beat != last {
				last, end = beat, now.Add(awakeFor)
			}
		}
		page.asleep.Store(1)
		if page.beat.Load() == last {
			futex(&page.asleep, futexWait, 1)
		}
		page.asleep.Store(0)
	}
}

func mapVigil(fd int) (*vigil, error) {
	b, err := unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*vigil)(unsafe.Pointer(&b[0])), nil
}

func futex(word *atomic.Uint32, op, value uintptr) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), op, value, 0, 0, 0)
}
