package supervise

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"time"

	"mica/fs"
	"mica/internal/idcall"
	"mica/run/account"
	"mica/run/control"
	"mica/run/desktop"
	"mica/run/generated"
	"mica/run/home"
	"mica/run/limits"
	"mica/run/mounted"
	"mica/run/record"
	"mica/run/sandbox"
	"mica/run/tree"
	"mica/run/userns"
	"mica/run/volume"
)

// session is one run of a container: from a mounted tree to the end of its
// main process.
type session struct {
	cfg    *record.Config
	tree   *tree.Tree
	server *fs.Server
	box    *sandbox.Sandbox
	io     *processIO
	health *healthMonitor
	limit  *time.Timer // ends it; nil: it may go on for ever
	cgroup *os.File    // with the limits of the container; nil: it has none

	volumes []*volume.Hold // those mounted, where their owners matter

	unions  []*tree.Tree     // mounts that are unions of their own
	desktop *desktop.Desktop // nil: it has none
}

// begin starts the container once. started is called before any of its output
// is passed on.
func (s *supervisor) begin(started func()) (_ *session, err error) {
	cfg := s.c.Config
	t, err := tree.Open(s.c, s.start.Lowers, tree.Options{Volatile: cfg.Volatile()})
	if err != nil {
		return nil, err
	}
	sess := &session{cfg: cfg, tree: t}
	defer func() {
		if err != nil {
			sess.desktop.Close()
			sess.closeUnions(s.c)
			t.Close()
			limits.Remove(sess.cgroup)
			sess.releaseVolumes()
		}
	}()
	if err := sess.holdVolumes(); err != nil {
		return nil, err
	}
	box, err := sess.sandboxConfig(s)
	if err != nil {
		return nil, err
	}
	if err := sess.serveRoot(box); err != nil {
		return nil, err
	}
	var size *control.Size
	if a := s.start.Attach; a != nil {
		size = a.Size
	}
	if size != nil {
		box.Process.Size = sandbox.Size(*size)
	}
	_, io, err := sess.startProcess(&box.Process, inputOf(cfg), func(spec *sandbox.Spec) (*sandbox.Process, error) {
		box.Process = *spec
		b, err := sandbox.Start(context.Background(), box)
		if err != nil {
			return nil, err
		}
		sess.box = b
		sess.server.ProcessesAt(b.Proc())
		return b.Main(), nil
	})
	if err != nil {
		return nil, codedError(err)
	}
	sess.io = io
	s.hub.setInput(io.stdin)
	if err := s.noteStart(sess); err != nil {
		io.discard()
		_ = sess.box.Kill()
		_, _ = sess.box.Wait()
		return nil, err
	}
	started()
	io.pump(s.hub.output)
	return sess, nil
}

// inputOf says how the main process has its input.
func inputOf(cfg *record.Config) input {
	switch {
	case !cfg.OpenStdin:
		return noInput
	case cfg.KeepStdin:
		return keptInput
	}
	return onceInput
}

// noteStart records that the session runs.
func (s *supervisor) noteStart(sess *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errStopped
	}
	st := &s.c.State
	st.Status, st.PID, st.Supervisor = record.Running, sess.box.PID(), os.Getpid()
	st.StartedAt, st.Error, st.ExitCode, st.Stopped, st.Health = time.Now().UTC(), "", 0, false, nil
	sess.health = s.watchHealth(sess)
	if err := s.c.WriteState(); err != nil {
		if sess.health != nil {
			sess.health.cancel()
		}
		return err
	}
	s.session = sess
	if t := s.c.Config.Host.Timeout; t > 0 {
		sess.limit = time.AfterFunc(time.Duration(t)*time.Second, func() {
			s.kill()
			_ = sess.box.Kill()
		})
	}
	return nil
}

// wait waits for the end of the session, clears up, and gives the exit code. The container may vanish as soon as the main
// process has ended and all output is there, while the kernel still clears the sandbox away; not where a volume's owners
// are still to be settled.
func (sess *session) wait(s *supervisor) int {
	status, err := sess.box.Main().Wait()
	sess.health.stop()
	if sess.limit != nil {
		sess.limit.Stop()
	}
	s.hub.drain(true)
	sess.io.finish(0) // nobody is left who could hold it open
	s.hub.drain(false)
	if err == nil && len(sess.volumes) == 0 {
		s.vanish(status.Code)
	}
	status, err = sess.box.Wait()
	sess.desktop.Close()
	sess.closeUnions(s.c)
	sess.tree.Close()
	limits.Remove(sess.cgroup)
	sess.releaseVolumes()
	if err != nil && status.Code == 0 {
		return 255
	}
	return status.Code
}

func (sess *session) resize(size control.Size) { sess.io.resize(size) }

// codedError gives an error of the command itself the exit code that it has by
// convention.
func codedError(err error) error {
	var start *sandbox.StartError
	if errors.As(err, &start) {
		return &control.Error{Code: start.Code, Message: start.Msg}
	}
	return err
}

// sandboxConfig puts the container's configuration in the terms of the
// sandbox.
func (sess *session) sandboxConfig(s *supervisor) (*sandbox.Config, error) {
	cfg, h := sess.cfg, &sess.cfg.Host
	ids, err := userns.IDs(h.UserNS)
	if err != nil {
		return nil, err
	}
	sess.tree.IDs = ids
	if !ids.Helpers && slices.ContainsFunc(h.Ulimits, func(u record.Ulimit) bool { return u.Name == "locks" }) {
		return nil, errors.New("--ulimit locks: with one id that limit holds the emulated users, and Linux ignores it anyway: leave it out")
	}
	if h.UserNS == "keep-id" && h.Desktop == nil && !cfg.HostBase {
		if err := account.Add(sess.tree, uint32(os.Getuid()), uint32(os.Getgid()), sess.homeWithKeptID()); err != nil {
			return nil, err
		}
	}
	user, err := account.Lookup(sess.tree, sess.userSpec(cfg.Container.User), h.GroupAdd)
	if err != nil {
		return nil, err
	}
	files, err := generated.Files(cfg)
	if err != nil {
		return nil, err
	}
	for _, m := range h.Mounts {
		if m.Type == record.MountVolume && !m.NoCopy {
			if err := sess.fillVolume(m); err != nil {
				return nil, err
			}
		}
	}
	mounts, err := mounted.ForSandbox(h.Mounts, func(m *record.Mount, to *sandbox.Mount) error { return sess.serveUnion(s, m, to) })
	if err != nil {
		return nil, err
	}
	mounts = append(mounts, s.coverStore(h.Mounts)...)
	if cfg.HostBase {
		mounts = append(mounted.OverHost(s.start.Root), mounts...)
	}
	cwd := cfg.Container.WorkingDir
	if cwd == "" {
		cwd = sess.startDir()
	}
	cwd = path.Clean("/" + cwd)
	box := &sandbox.Config{
		IDs: ids, Hostname: cfg.Container.Hostname, Domain: cfg.Container.Domainname, ReadOnlyRoot: h.ReadOnly, Mounts: mounts, Files: files,
		Ahead: s.ahead, ShmSize: h.ShmSize, Umask: h.Umask, OOMScoreAdj: h.OOMScoreAdj, Caps: sandbox.Caps{Add: h.CapAdd, Drop: h.CapDrop},
		Process: sandbox.Spec{
			Args: cfg.Args(), Env: environment(cfg, cfg.TTY, user.Home, nil), Cwd: cwd, User: user.User, TTY: cfg.TTY,
		},
	}
	for _, d := range h.Devices {
		box.Devices = append(box.Devices, sandbox.Device{Source: d.Source, Target: d.Target})
	}
	if sess.desktop, err = desktop.Add(box, s.c, sess.tree); err != nil {
		return nil, err
	}
	over := func(m record.Mount) bool { return mounted.AtOrBelow(cwd, m.Target) }
	if !slices.ContainsFunc(slices.Concat(h.Mounts, sess.homeMounts()), over) {
		if err := sess.tree.MakeWorkingDir(cwd); err != nil {
			return nil, err
		}
	}
	if err := setNetwork(box, h); err != nil {
		return nil, err
	}
	setShared(box, h)
	if err := setSysctls(box, h); err != nil {
		return nil, err
	}
	if err := setSecurity(box, h); err != nil {
		return nil, err
	}
	if box.Rlimits, err = limits.Rlimits(h.Ulimits); err != nil {
		return nil, err
	}
	if limits.Wanted(h) {
		sess.cgroup, err = limits.Cgroup(h)
		box.Cgroup = sess.cgroup
	}
	return box, err
}

// userSpec is whom a process runs as: with keep-id, and on the desktop, the
// calling user, where nobody else is named.
func (sess *session) userSpec(spec string) string {
	if d := sess.cfg.Host.Desktop; d != nil && d.AsUser {
		uid, gid := userns.Own(sess.tree.IDs)
		return fmt.Sprintf("%d:%d", uid, gid)
	}
	if spec == "" && sess.cfg.Host.UserNS == "keep-id" {
		return fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid())
	}
	return spec
}

// homeWithKeptID is the calling user's home directory where the container has
// one of that path, and where a process begins otherwise.
func (sess *session) homeWithKeptID() string {
	if home, err := os.UserHomeDir(); err == nil && path.IsAbs(home) {
		if st, err := sess.tree.Stat(home, true); err == nil && st != nil {
			return home
		}
		if slices.ContainsFunc(sess.cfg.Host.Mounts, func(m record.Mount) bool { return m.Target == path.Clean(home) }) {
			return home
		}
	}
	if dir := sess.cfg.Container.WorkingDir; dir != "" {
		return path.Clean("/" + dir)
	}
	return "/"
}

// startDir is where a container starts that names no directory: at home, where
// it has one.
func (sess *session) startDir() string {
	if d := sess.cfg.Host.Desktop; d != nil {
		return d.HomeDir
	}
	return "/"
}

// homeMounts are the directories in which no working directory is to be made,
// because something is mounted there.
func (sess *session) homeMounts() []record.Mount {
	d := sess.cfg.Host.Desktop
	if d == nil || d.Home == record.HomePrivate && !home.IsUnion(sess.cfg) {
		return nil
	}
	return []record.Mount{{Target: d.HomeDir}}
}

// execSpec puts a request for a further process in the terms of the sandbox.
func (sess *session) execSpec(x *control.Exec) (*sandbox.Spec, error) {
	userSpec := x.User
	if userSpec == "" {
		userSpec = sess.userSpec(sess.cfg.Container.User)
	}
	user, err := account.Lookup(sess.tree, userSpec, sess.cfg.Host.GroupAdd)
	if err != nil {
		return nil, err
	}
	cwd := x.WorkingDir
	if cwd == "" {
		cwd = sess.cfg.Container.WorkingDir
	}
	if cwd == "" {
		cwd = sess.startDir()
	}
	spec := &sandbox.Spec{
		Args: x.Args, Env: environment(sess.cfg, x.TTY, user.Home, x.Env), Cwd: path.Clean("/" + cwd), User: user.User, TTY: x.TTY,
	}
	sess.desktop.AddTo(spec, x)
	if x.Privileged {
		spec.Caps, spec.Unconfined = &sandbox.Caps{Add: []string{"ALL"}}, true
	}
	if x.Size != nil {
		spec.Size = sandbox.Size(*x.Size)
	}
	return spec, nil
}

// serveRoot makes the tree the root of the sandbox. Where there is only one id,
// others are emulated, and their owners recorded in the tree.
func (sess *session) serveRoot(box *sandbox.Config) error {
	token, err := idcall.NewToken()
	if err != nil {
		return err
	}
	opt := serverOptions(sess.tree)
	opt.Token = token
	var owner sandbox.OwnerFunc
	opt.Creds = func(pid uint32) (uid, gid uint32, ok bool) {
		if owner == nil {
			return 0, 0, false
		}
		return owner(pid)
	}
	sess.server = fs.New(sess.tree.Union, opt)
	box.EmulateIDs = true
	box.Root = sandbox.Root{
		FUSEOptions: "default_permissions,allow_other",
		Token:       token,
		Server:      sess.server,
		Owner:       func(o sandbox.OwnerFunc) { owner = o },
	}
	return nil
}
