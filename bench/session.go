package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// session is one run: a plan with its agents, directories and results.
type session struct {
	plan   *runPlan
	launch *launcher
	report *Report
	// homes are the directories that hold fixtures and scratch trees: the plan's, and one in each measured directory.
	homes map[string]string
	made  map[string]*fixture // by path
	next  int
	// lock is the plan's directory, locked: two runs in one would take each other's trees away.
	lock *os.File
}

func newSession(p *runPlan) (*session, error) {
	s := &session{plan: p, homes: map[string]string{}, made: map[string]*fixture{}}
	s.launch = &launcher{argv: p.Agent, credential: p.credential, home: p.home, namespaces: true}
	// Only the last directory is made by this process: it may be root and the agents another user.
	if err := s.makeHome("", p.Dir); err != nil {
		return nil, err
	}
	if err := s.lockHome(); err != nil {
		return nil, err
	}
	for _, spec := range p.peers {
		if spec.Dir != "" {
			if err := s.makeHome(spec.Dir, filepath.Join(spec.Dir, ".mica-bench-"+strconv.Itoa(os.Getpid()))); err != nil {
				return nil, errors.Join(err, s.close())
			}
		}
	}
	s.report = &Report{Format: reportFormat, Quick: p.Quick, Runs: p.Runs, Scale: p.scale, Environment: environment(p)}
	return s, nil
}

// spread has ext4 place the trees in a directory apart from each other (chattr +T). Otherwise each sample would search for
// inodes among those that the last one has deleted, and pay for the order in which the peers are measured.
func spread(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("make a place for the trees: %w", err)
	}
	defer d.Close()
	const topDirFlag = 0x20000 // FS_TOPDIR_FL of <linux/fs.h>
	if flags, err := unix.IoctlGetInt(int(d.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(int(d.Fd()), unix.FS_IOC_SETFLAGS, flags|topDirFlag) // other filesystems have no such thing
	}
	return nil
}

// homeStamp is a file that says of a directory that it is a benchmark's, to be removed with all that is in it.
const homeStamp = ".mica-bench"

// claimDir makes a directory for trees, or takes one that an earlier run has made.
func claimDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a place for the trees: %w", err)
	}
	there, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("make a place for the trees: %w", err)
	}
	stamp := filepath.Join(dir, homeStamp)
	if _, err := os.Lstat(stamp); err == nil {
		return nil
	}
	if len(there) > 0 {
		return fmt.Errorf("make a place for the trees: %s is not empty, and not an earlier benchmark's: remove it, or name another place with --dir DIR", dir)
	}
	f, err := os.OpenFile(stamp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("make a place for the trees: %w", err)
	}
	return f.Close()
}

func (s *session) makeHome(key, dir string) error {
	if err := claimDir(dir); err != nil {
		return err
	}
	if c := s.plan.credential; c != nil {
		if err := os.Chown(dir, int(c.Uid), int(c.Gid)); err != nil {
			return fmt.Errorf("make a place for the trees: %w", err)
		}
	}
	if err := spread(dir); err != nil {
		return err
	}
	s.homes[key] = dir
	return nil
}

func (s *session) lockHome() error {
	dir, err := os.Open(s.plan.Dir)
	if err != nil {
		return fmt.Errorf("make a place for the trees: %w", err)
	}
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("lock %s: another benchmark runs there; name another place with --dir DIR", s.plan.Dir), dir.Close())
	}
	s.lock = dir
	return nil
}

// close removes what the session made, except kept fixtures.
func (s *session) close() error {
	var errs []error
	for key, dir := range s.homes {
		if !s.plan.Keep || key != "" {
			errs = append(errs, removeTree(dir))
		}
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// run probes the peers, makes the fixtures and takes the samples. When ctx ends it returns what there is.
func (s *session) run(ctx context.Context) (*Report, error) {
	bar := newProgress(s.plan.Progress)
	defer bar.stop()
	if err := s.probe(ctx); err != nil {
		return nil, err
	}
	pairs := s.pairs()
	if len(pairs) == 0 {
		return nil, errors.New("find something to measure: every workload or peer was left out")
	}
	bar.begin(len(pairs) * s.plan.Runs)
	for round := range s.plan.Runs {
		for i := range pairs {
			// Peers of one workload stand side by side; each round starts with another of them.
			p := pairs[rotate(pairs, i, round)]
			bar.step(p.result.Workload + " on " + p.peer.Name)
			if p.result.Failed == "" && (p.workload.MaxRuns == 0 || round < p.workload.MaxRuns) {
				s.measure(ctx, p)
			}
			if ctx.Err() != nil {
				s.report.Interrupted = true
				s.report.finish()
				return s.report, nil
			}
		}
	}
	s.report.finish()
	return s.report, nil
}

// pair is one workload on one peer.
type pair struct {
	workload *Workload
	peer     peerSpec
	result   *Result
}

// rotate permutes the pairs of one workload by the round, so that no peer always comes after the same one. The first
// round has the order of the report: the plain directory, which is the reference, first.
func rotate(pairs []pair, i, round int) int {
	first, last := i, i
	for first > 0 && pairs[first-1].workload == pairs[i].workload {
		first--
	}
	for last+1 < len(pairs) && pairs[last+1].workload == pairs[i].workload {
		last++
	}
	n := last - first + 1
	return first + (i-first+round)%n
}

// pairs lists what is measured, and names what is left out.
func (s *session) pairs() []pair {
	var all []pair
	for i := range s.plan.workloads {
		w := &s.plan.workloads[i]
		if t, miss := missing(w.Needs); miss {
			s.leaveOut(w.Name, fmt.Sprintf("%s is not installed (Debian package %s)", t.Program, t.Package))
			continue
		}
		for _, spec := range s.peersOf(w) {
			r := &Result{Workload: w.Name, Group: w.Group, About: w.About, Unit: w.unit(), Peer: spec.Name, Cold: w.Cold, Tool: w.Kind == OnTool, Samples: []sample{}}
			s.report.Results = append(s.report.Results, r)
			all = append(all, pair{workload: w, peer: spec, result: r})
		}
	}
	return all
}

func (s *session) peersOf(w *Workload) []peerSpec {
	var out []peerSpec
	if w.Kind == OnTool {
		for _, v := range w.variants {
			if !s.plan.wanted(v.peer) {
				continue
			}
			if t, miss := missing(v.needs); miss {
				s.leaveOut(w.Name+" on "+v.peer, fmt.Sprintf("%s is not installed (Debian package %s)", t.Program, t.Package))
				continue
			}
			out = append(out, s.report.toolPeer(v.peer))
		}
		return out
	}
	for _, p := range s.report.Peers {
		switch {
		case p.Kind == peerTool, w.MountOnly && p.Kind == peerFlat, w.ServerOnly && p.Kind != peerCommand:
		default:
			out = append(out, p)
		}
	}
	return out
}

func (s *session) leaveOut(what, why string) {
	s.report.LeftOut = append(s.report.LeftOut, LeftOut{What: what, Why: why})
	s.plan.log("left out: %s: %s", what, why)
}

// measure takes one sample and puts it into the pair's result.
func (s *session) measure(ctx context.Context, p pair) {
	sm, err := s.sample(ctx, p)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		p.result.Failed = err.Error()
		s.plan.log("failed: %s on %s: %v", p.workload.Name, p.peer.Name, err)
	default:
		p.result.Samples = append(p.result.Samples, *sm)
	}
}

func (s *session) sample(ctx context.Context, p pair) (*sample, error) {
	ctx, cancel := context.WithTimeout(ctx, s.plan.Timeout)
	defer cancel()
	t := s.task("sample", p.peer)
	t.Workload = p.workload.Name
	t.Namespaces = s.launch.namespaces && p.workload.Kind == OnMount
	f, err := s.fixture(ctx, t, p.workload)
	if err != nil {
		return nil, err
	}
	t.Fixture, t.Layers = f.dir, f.layers
	sm, err := s.launch.do(ctx, t)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("take sample: not done after %v", s.plan.Timeout)
	}
	if err != nil {
		s.cleanUp(t)
	}
	return sm, err
}

// cleanUp removes what an agent that failed may have left.
func (s *session) cleanUp(t *task) {
	if _, err := os.Lstat(t.Scratch); err != nil {
		return
	}
	r := *t
	r.Do = "remove"
	if _, err := s.launch.do(context.Background(), &r); err != nil {
		s.plan.log("left behind: %s: %v", t.Scratch, err)
	}
}

func (s *session) task(do string, spec peerSpec) *task {
	s.next++
	home := s.homes[spec.Dir]
	return &task{Do: do, Peer: spec, Scale: s.plan.scale, Namespaces: s.launch.namespaces, Mica: s.plan.Mica, RootDir: s.plan.Root,
		Deb: s.plan.Deb, Scratch: filepath.Join(home, "s"+strconv.Itoa(s.next))}
}

// fixture makes the workload's fixture in the peer's home, once.
func (s *session) fixture(ctx context.Context, t *task, w *Workload) (*fixture, error) {
	name := w.Fixture
	if name == "" {
		name = "empty"
	}
	dir := filepath.Join(s.homes[t.Peer.Dir], "fixture-"+name)
	if f, ok := s.made[dir]; ok {
		return f, nil
	}
	mk := *t
	mk.Do, mk.Fixture, mk.FixtureName, mk.Namespaces = "fixture", dir, name, s.launch.namespaces
	if _, err := s.launch.do(ctx, &mk); err != nil {
		return nil, err
	}
	f, ok := openFixture(dir, name, &mk)
	if !ok {
		return nil, fmt.Errorf("open fixture %s: it is not what was made", name)
	}
	s.made[dir] = f
	return f, nil
}

// probe finds out which peers work here, and leaves the others out with the reason.
func (s *session) probe(ctx context.Context) error {
	for _, spec := range s.plan.peers {
		err := s.probeOne(ctx, spec)
		if err != nil && s.launch.namespaces && spec.Kind == peerFlat && spec.Dir == "" {
			s.leaveOut("user namespaces", err.Error()+"; see the sysctls user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns")
			s.launch.namespaces = false
			err = s.probeOne(ctx, spec)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			s.leaveOut(spec.Name, err.Error())
			continue
		}
		if spec.Version == "" && spec.Kind == peerCommand {
			spec.Version = versionOf(spec.Argv[0])
		}
		s.report.Peers = append(s.report.Peers, spec)
	}
	s.report.Subject = s.plan.Subject
	if n := len(s.report.Peers); s.report.Subject == "" && n > 0 {
		s.report.Subject = s.report.Peers[n-1].Name
		for _, p := range s.report.Peers {
			if p.Name == peerMica {
				s.report.Subject = peerMica
			}
		}
	}
	return nil
}

func (s *session) probeOne(ctx context.Context, spec peerSpec) error {
	if spec.Kind == peerKernel && !s.launch.namespaces && os.Geteuid() != 0 {
		return errors.New("kernel overlayfs needs user namespaces, or root")
	}
	t := s.task("probe", spec)
	f, err := s.fixture(ctx, t, &Workload{})
	if err != nil {
		return err
	}
	t.Fixture, t.Layers = f.dir, f.layers
	_, err = s.launch.do(ctx, t)
	return err
}
