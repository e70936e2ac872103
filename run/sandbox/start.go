package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// initName is argv[0] of a process that is to become an init; controlFD is its end of the control socket.
const (
	initName  = "mica-init"
	controlFD = 3
)

// start implements Start.
func start(ctx context.Context, cfg *Config) (*Sandbox, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ids := cfg.IDs
	if len(ids.UIDs) == 0 {
		var err error
		if ids, err = ResolveIDs(IDsAuto); err != nil {
			return nil, err
		}
	}
	bounding, err := cfg.Caps.mask()
	if err != nil {
		return nil, err
	}
	s := &Sandbox{cfg: cfg, ids: ids, procs: map[int]*Process{},
		done: make(chan struct{}), served: make(chan struct{}), readAll: make(chan struct{}),
	}
	// The filter is compiled while init comes up.
	main := make(chan wired, 1)
	go func() {
		spec, fds, err := s.wire(&cfg.Process)
		main <- wired{spec, fds, err}
	}()
	if s.emulates() {
		if s.table, s.view, err = shareTable(); err != nil {
			return nil, err
		}
		defer unix.Close(s.table)
	}
	if err := s.launch(bounding); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { s.Kill() })
	err = s.boot(main)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		s.Kill()
		s.Wait()
		return nil, explain(err)
	}
	return s, nil
}

// wired is what Sandbox.wire returns.
type wired struct {
	spec *wireSpec
	fds  []int
	err  error
}

// validate refuses what cannot work before anything is started.
func (c *Config) validate() error {
	if (c.Root.Dir == "") == (c.Root.ServeRoot == nil) {
		return errors.New("start sandbox: exactly one of a root directory and a root server is needed")
	}
	for _, m := range c.Mounts {
		if !filepath.IsAbs(m.Target) {
			return fmt.Errorf("mount over %q: the target is not an absolute path", m.Target)
		}
		if m.Kind == MountFUSE && m.Serve == nil {
			return fmt.Errorf("mount over %s: nothing serves it", m.Target)
		}
		if m.Kind == MountBind && !filepath.IsAbs(m.Source) {
			return fmt.Errorf("mount %q over %s: the source is not an absolute path", m.Source, m.Target)
		}
	}
	for _, f := range c.Files {
		if !filepath.IsAbs(f.Target) {
			return fmt.Errorf("place file %q: not an absolute path", f.Target)
		}
	}
	if len(c.Ports) > 0 && c.Network != NetworkPasta {
		return errors.New("forward ports: only --network pasta can do that")
	}
	return c.Process.validate()
}

func (p *Spec) validate() error {
	if len(p.Args) == 0 {
		return errors.New("start process: no command given")
	}
	if p.Cwd != "" && !filepath.IsAbs(p.Cwd) {
		return fmt.Errorf("start process: the working directory %q is not an absolute path", p.Cwd)
	}
	for i, f := range []*os.File{p.Stdin, p.Stdout, p.Stderr} {
		if f == nil || p.TTY {
			continue
		}
		if fi, err := f.Stat(); err == nil && fi.IsDir() {
			return fmt.Errorf("start process: descriptor %d is a directory, which would be a way out of the sandbox", i)
		}
	}
	return nil
}

// launch makes the control socket and starts init. On success a goroutine waits for init and s.pid is set.
func (s *Sandbox) launch(bounding uint64) error {
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
	exe, closeExe, err := executable(bounding)
	if err == nil {
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
	return nil
}

// memoryLimit makes init collect garbage only when it has much, and not at all by itself when it emulates ids; see
// startEmulation.
func (s *Sandbox) memoryLimit() string {
	if s.emulates() {
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
	if _, err := os.Lstat("/proc/self/ns/cgroup"); err == nil {
		a.Cloneflags |= unix.CLONE_NEWCGROUP
	}
	if s.cfg.Network != NetworkHost {
		a.Cloneflags |= unix.CLONE_NEWNET
	}
	if !s.ids.Helpers {
		a.UidMappings, a.GidMappings = sysIDs(s.ids.UIDs), sysIDs(s.ids.GIDs)
	}
	if s.ids.Helpers || !s.ids.HasUID(0) {
		// Without a mapped user 0 execve(2) would take the capabilities of the new namespace away.
		for c := 0; c <= lastCap(); c++ {
			a.AmbientCaps = append(a.AmbientCaps, uintptr(c))
		}
	}
	return a
}

// own starts init and waits for it, from a thread that exists as long as init does: the parent-death signal of init is
// about the thread that started it.
func (s *Sandbox) own(exe string, attr *syscall.ProcAttr, started chan<- error) {
	runtime.LockOSThread()
	pid, err := syscall.ForkExec(exe, []string{initName}, attr)
	if err != nil {
		started <- err
		return
	}
	s.pid = pid
	started <- nil
	var ws syscall.WaitStatus
	for {
		// Leave it a zombie until the lock is held, so that Kill never signals a stranger.
		if err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	s.mu.Lock()
	s.reaped = true
	for {
		if _, err := syscall.Wait4(pid, &ws, 0, nil); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	s.mu.Unlock()
	<-s.readAll
	s.mu.Lock()
	serving := s.fuseTaken
	s.mu.Unlock()
	if serving {
		<-s.served
	}
	s.mounts.Wait()
	s.finish(ws)
}

// boot takes init through its setup and returns when the main process runs.
func (s *Sandbox) boot(main <-chan wired) error {
	p := s.newProcess()
	s.main = p
	go s.read()
	maps := make(chan error, 1)
	if s.ids.Helpers {
		go func() { maps <- s.ids.writeMaps(s.pid) }()
	}
	w := <-main
	if w.err != nil {
		return s.startError(p, w.err)
	}
	fds := w.fds
	if s.emulates() {
		fds = append(fds, s.table)
	}
	if err := s.conn.send(&message{Op: opSetup, Setup: s.setup(w.spec)}, fds...); err != nil {
		return s.startError(p, err)
	}
	runtime.KeepAlive(s.cfg)
	if s.ids.Helpers {
		if err := <-maps; err != nil {
			return s.startError(p, err)
		}
		if err := s.conn.send(&message{Op: opMaps}); err != nil {
			return s.startError(p, err)
		}
	}
	if s.cfg.Network == NetworkPasta {
		if err := s.connectPasta(); err != nil {
			return s.startError(p, err)
		}
		if err := s.conn.send(&message{Op: opNet}); err != nil {
			return s.startError(p, err)
		}
	}
	return <-p.started
}

// startError ends init and prefers what that has said about an earlier end of its own, which err may be only a
// consequence of.
func (s *Sandbox) startError(p *Process, err error) error {
	s.Kill()
	if said := <-p.started; said != nil && !errors.Is(said, ErrEnded) {
		return said
	}
	return err
}

func (s *Sandbox) setup(main *wireSpec) *setup {
	c := s.cfg
	st := &setup{
		WaitMaps: s.ids.Helpers, WaitNet: c.Network == NetworkPasta, HasGroups: s.ids.Helpers,
		Become:  !(s.ids.UIDs[0].Inside == 0 && s.ids.UIDs[0].Outside == uint32(os.Geteuid())) && s.ids.HasUID(0),
		HostNet: c.Network == NetworkHost, Loopback: c.Network == NetworkNone, Hostname: c.Hostname,
		RootDir: c.Root.Dir, FUSEOptions: c.Root.FUSEOptions, ReadOnlyRoot: c.ReadOnlyRoot,
		Mounts: c.Mounts, Files: c.Files, Devices: c.Devices, ShmSize: c.ShmSize,
		TTYGroup: s.ids.HasGID(5), Masked: c.MaskedPaths, ReadOnly: c.ReadOnlyPaths, Rlimits: c.Rlimits, Main: *main,
	}
	if s.emulates() {
		st.Emulate, st.Token, st.IdentityFilter = true, c.Root.Token, identityFilter()
		st.BaseUID, st.BaseGID = s.ids.UIDs[0].Inside, s.ids.GIDs[0].Inside
	}
	if st.ShmSize == 0 {
		st.ShmSize = 64 << 20
	}
	if st.Masked == nil {
		st.Masked = DefaultMaskedPaths()
	}
	if st.ReadOnly == nil {
		st.ReadOnly = DefaultReadOnlyPaths()
	}
	return st
}

// wire resolves a Spec to what init gets, and the descriptors that go with it.
func (s *Sandbox) wire(p *Spec) (*wireSpec, []int, error) {
	if err := p.validate(); err != nil {
		return nil, nil, err
	}
	caps := &s.cfg.Caps
	if p.Caps != nil {
		caps = p.Caps
	}
	bounding, err := caps.mask()
	if err != nil {
		return nil, nil, err
	}
	w := &wireSpec{
		Args: p.Args, Env: p.Env, Cwd: p.Cwd, User: p.User, TTY: p.TTY, Size: p.Size, Bounding: bounding,
		NoNewPrivs: p.NoNewPrivs || s.cfg.NoNewPrivs,
	}
	if err := s.checkUser(&p.User); err != nil {
		return nil, nil, err
	}
	if !p.Unconfined {
		if w.Filter, err = s.cfg.Seccomp.filter(bounding); err != nil {
			return nil, nil, err
		}
	}
	var fds []int
	if !p.TTY {
		for i, f := range []*os.File{p.Stdin, p.Stdout, p.Stderr} {
			if f != nil {
				w.Stdio |= 1 << i
				fds = append(fds, int(f.Fd()))
			}
		}
	}
	return w, fds, nil
}

// checkUser refuses ids that do not exist in the sandbox.
func (s *Sandbox) checkUser(u *User) error {
	if s.emulates() {
		return nil
	}
	if !s.ids.HasUID(u.UID) {
		return fmt.Errorf("start process: user %d does not exist in the sandbox, whose ids are %s", u.UID, describe(s.ids.UIDs))
	}
	if !s.ids.HasGID(u.GID) {
		return fmt.Errorf("start process: group %d does not exist in the sandbox, whose ids are %s", u.GID, describe(s.ids.GIDs))
	}
	return nil
}
