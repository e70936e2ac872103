package sandbox

import (
	"fmt"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// initKind is what has to be known of a sandbox to start its init.
type initKind struct {
	ids      IDMap
	ownNet   bool // has a network namespace of its own
	shared   Shared
	emulates bool   // ids; see package ids
	bounding uint64 // capabilities that processes may have
	cgroup   *os.File
}

func (k *initKind) equal(other *initKind) bool {
	return k.cgroup == other.cgroup && slices.Equal(k.ids.UIDs, other.ids.UIDs) && slices.Equal(k.ids.GIDs, other.ids.GIDs) && k.ids.Helpers == other.ids.Helpers &&
		k.ownNet == other.ownNet && k.shared == other.shared && k.emulates == other.emulates && (k.bounding&reachInit != 0) == (other.bounding&reachInit != 0)
}

// Ahead is an init that has been started before it is known what for; the zero pointer is none.
type Ahead struct{ s *Sandbox }

// StartAhead starts an init for what sandboxes are by default, in its namespaces and with its ids. Whatever hinders it is told
// by the start of the sandbox.
func StartAhead() *Ahead {
	ids, err := ResolveIDs(IDsAuto)
	if err != nil {
		return nil
	}
	bounding, err := (Caps{}).mask()
	if err != nil {
		return nil
	}
	s := newSandbox(initKind{ids: ids, emulates: !ids.Helpers, bounding: bounding})
	if s.launch() != nil {
		return nil
	}
	return &Ahead{s}
}

// take gives the sandbox of an init that is of the wanted kind, and ends any other.
func (a *Ahead) take(want *initKind) *Sandbox {
	if a == nil || a.s == nil {
		return nil
	}
	s := a.s
	a.s = nil
	if s.kind.equal(want) {
		return s
	}
	s.abandon()
	return nil
}

// abandon ends an init that has not been told yet what for it is.
func (s *Sandbox) abandon() {
	s.Kill()
	close(s.readAll) // nobody listens to it
}

func newSandbox(kind initKind) *Sandbox {
	return &Sandbox{kind: kind, procs: map[int]*Process{}, serving: map[int]Server{}, maps: make(chan error, 1),
		done: make(chan struct{}), readAll: make(chan struct{}), synced: make(chan *message, 1),
	}
}

// launch makes the control socket and starts init, unless that has been done. On success a goroutine waits for init, s.pid is
// set, and where helpers have to map ids they are under way.
func (s *Sandbox) launch() error {
	if s.pid != 0 {
		return nil
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make control socket: %w", err)
	}
	s.conn = &conn{fd: pair[0]}
	var errPipe [2]int
	if err := unix.Pipe2(errPipe[:], unix.O_CLOEXEC); err != nil {
		closeAll(pair[:])
		return fmt.Errorf("make pipe: %w", err)
	}
	s.stderr = errPipe[0]
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		closeAll(append(pair[:], errPipe[:]...))
		return fmt.Errorf("open /dev/null: %w", err)
	}
	exe, safe, closeExe, err := executable(s.kind.bounding)
	if s.safeInit = safe; err == nil {
		attr := &syscall.ProcAttr{
			Env:   []string{"GOMAXPROCS=4", "GOGC=off", s.memoryLimit(), "GOTRACEBACK=all", "GODEBUG=containermaxprocs=0,updatemaxprocs=0"},
			Files: []uintptr{uintptr(null), uintptr(null), uintptr(errPipe[1]), uintptr(pair[1])},
			Sys:   s.attributes(),
		}
		started := make(chan error, 1)
		go s.own(exe, attr, started)
		err = <-started
		closeExe()
	}
	closeAll([]int{pair[1], errPipe[1], null})
	if err != nil {
		closeAll([]int{pair[0], errPipe[0]})
		return explainClone(err)
	}
	if s.kind.ids.Helpers {
		go func() { s.maps <- s.kind.ids.writeMaps(s.pid) }()
	}
	return nil
}

// memoryLimit makes init collect garbage only when it has much, and not at all by itself when it emulates ids; see
// startEmulation.
func (s *Sandbox) memoryLimit() string {
	if s.kind.emulates {
		return "GOMEMLIMIT=off"
	}
	return "GOMEMLIMIT=64MiB"
}

// attributes are those of the clone that makes init.
func (s *Sandbox) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Setsid:     true,
	}
	if _, err := os.Lstat("/proc/self/ns/cgroup"); err == nil && !s.kind.shared.Cgroup {
		a.Cloneflags |= unix.CLONE_NEWCGROUP
	}
	if s.kind.cgroup != nil {
		a.UseCgroupFD, a.CgroupFD = true, int(s.kind.cgroup.Fd())
	}
	if s.kind.shared.IPC {
		a.Cloneflags &^= unix.CLONE_NEWIPC
	}
	if s.kind.shared.UTS {
		a.Cloneflags &^= unix.CLONE_NEWUTS
	}
	if s.kind.ownNet {
		a.Cloneflags |= unix.CLONE_NEWNET
	}
	ids := &s.kind.ids
	if !ids.Helpers {
		a.UidMappings, a.GidMappings = sysIDs(ids.UIDs), sysIDs(ids.GIDs)
	}
	if ids.Helpers || !ids.HasUID(0) {
		// Without a mapped user 0 execve(2) would take the capabilities of the new namespace away.
		for c, last := 0, lastCap(); c <= last; c++ {
			a.AmbientCaps = append(a.AmbientCaps, uintptr(c))
		}
	}
	return a
}
