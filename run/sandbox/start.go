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
	want := initKind{
		ids: ids, ownNet: cfg.Network != NetworkHost, shared: cfg.Shared, cgroup: cfg.Cgroup,
		emulates: cfg.EmulateIDs && !ids.Helpers, bounding: bounding,
	}
	s := cfg.Ahead.take(&want)
	if s == nil {
		s = newSandbox(want)
	}
	s.cfg = cfg
	// The filter is compiled while init comes up.
	main := make(chan wired, 1)
	go func() {
		spec, fds, err := s.wire(&cfg.Process)
		main <- wired{spec, fds, err}
	}()
	if err := s.launch(); err != nil {
		return nil, err
	}
	if s.kind.emulates {
		if s.table, s.view, err = shareTable(); err != nil {
			s.abandon()
			return nil, explain(err)
		}
		defer unix.Close(s.table)
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
	if (c.Root.Dir == "") == (c.Root.Server == nil) {
		return errors.New("start sandbox: exactly one of a root directory and a root server is needed")
	}
	for _, m := range c.Mounts {
		if !filepath.IsAbs(m.Target) {
			return fmt.Errorf("mount over %q: the target is not an absolute path", m.Target)
		}
		if m.Kind == MountFUSE && m.Server == nil {
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
	if c.Shared.UTS && (c.Hostname != "" || c.Domain != "") {
		return errors.New("set host name: it is the host's")
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
	unix.Shutdown(s.conn.fd, unix.SHUT_RDWR) // what init has said can still be read
	<-s.readAll
	s.awaitServers()
	s.finish(ws)
}

// boot takes init through its setup and returns when the main process runs.
func (s *Sandbox) boot(main <-chan wired) error {
	p := s.newProcess()
	s.main = p
	go s.read()
	w := <-main
	if w.err != nil {
		return s.startError(p, w.err)
	}
	fds := w.fds
	if s.kind.emulates {
		fds = append(fds, s.table)
	}
	if err := s.conn.send(&message{Op: opSetup, Setup: s.setup(w.spec)}, fds...); err != nil {
		return s.startError(p, err)
	}
	runtime.KeepAlive(s.cfg)
	if s.kind.ids.Helpers {
		if err := <-s.maps; err != nil {
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
		WaitMaps: s.kind.ids.Helpers, WaitNet: c.Network == NetworkPasta, HasGroups: s.kind.ids.Helpers,
		Become:  !(s.kind.ids.UIDs[0].Inside == 0 && s.kind.ids.UIDs[0].Outside == uint32(os.Geteuid())) && s.kind.ids.HasUID(0),
		HostIPC: c.Shared.IPC, HostNet: c.Network == NetworkHost, Loopback: c.Network == NetworkNone, Hostname: c.Hostname, Domain: c.Domain,
		RootDir: c.Root.Dir, FUSEOptions: c.Root.FUSEOptions, ReadOnlyRoot: c.ReadOnlyRoot,
		Mounts: c.Mounts, Files: c.Files, Devices: c.Devices, ShmSize: c.ShmSize,
		TTYGroup: s.kind.ids.HasGID(5), Masked: c.MaskedPaths, ReadOnly: c.ReadOnlyPaths, Rlimits: c.Rlimits, Sysctls: c.Sysctls, Main: *main,
	}
	if s.kind.emulates {
		st.Emulate, st.Token, st.IdentityFilter = true, c.Root.Token, identityFilter()
		st.BaseUID, st.BaseGID = s.kind.ids.UIDs[0].Inside, s.kind.ids.GIDs[0].Inside
	}
	st.Umask, st.OOMScoreAdj = 0o022, c.OOMScoreAdj
	if c.Umask != nil {
		st.Umask = *c.Umask
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
	if p != &s.cfg.Process && !s.safeInit {
		bounding &^= reachInit // init was not started for processes that may look into it
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
	if s.kind.emulates {
		return nil
	}
	if !s.kind.ids.HasUID(u.UID) {
		return fmt.Errorf("start process: user %d does not exist in the container, whose ids are %s", u.UID, describe(s.kind.ids.UIDs))
	}
	if !s.kind.ids.HasGID(u.GID) {
		return fmt.Errorf("start process: group %d does not exist in the container, whose ids are %s", u.GID, describe(s.kind.ids.GIDs))
	}
	return nil
}
