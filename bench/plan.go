package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// runPlan is options after validation.
type runPlan struct {
	Options
	scale      scale
	workloads  []Workload
	peers      []peerSpec
	image      string
	credential *syscall.Credential // of the agents; nil for one's own
	home       string              // of the agents' user
	log        func(format string, args ...any)
}

// plan validates options. Everything that can be wrong with them is found here, before anything is made.
func plan(opt Options) (*runPlan, error) {
	p := &runPlan{Options: opt, scale: fullScale(), image: opt.Image, log: func(string, ...any) {}}
	if opt.Log != nil {
		p.log = func(format string, args ...any) { fmt.Fprintf(opt.Log, format+"\n", args...) }
	}
	if opt.Quick {
		p.scale = quickScale()
	}
	if opt.sizes != nil {
		p.scale = *opt.sizes
	}
	if err := p.fillDefaults(); err != nil {
		return nil, err
	}
	dirs, err := p.takeArgs()
	if err != nil {
		return nil, err
	}
	if err := p.takeUser(); err != nil {
		return nil, err
	}
	if err := p.takeDir(); err != nil {
		return nil, err
	}
	return p, p.takePeers(dirs)
}

func (p *runPlan) fillDefaults() error {
	if p.Runs < 0 || p.Timeout < 0 {
		return errors.New("check options: the number of runs and the timeout cannot be negative")
	}
	if p.Runs == 0 {
		p.Runs = 5
		if p.Quick {
			p.Runs = 3
		}
	}
	if p.Timeout == 0 {
		p.Timeout = 10 * time.Minute
	}
	if p.Root != "" && p.Image != "" {
		return errors.New("check options: --rootfs and --image exclude each other")
	}
	for _, f := range []*string{&p.Root, &p.Deb} {
		if *f == "" {
			continue
		}
		abs, err := filepath.Abs(*f)
		if err != nil {
			return fmt.Errorf("check options: %w", err)
		}
		if _, err := os.Stat(abs); err != nil {
			return fmt.Errorf("check options: %w", err)
		}
		*f = abs
	}
	if p.Agent == nil {
		var err error
		if p.Agent, err = defaultAgent(); err != nil {
			return err
		}
	}
	if p.Mica == "" {
		p.Mica = p.Agent[0]
	}
	return checkMica(p.Mica)
}

// takeArgs tells patterns of workloads from directories: an argument that matches a workload is a pattern.
func (p *runPlan) takeArgs() (dirs []string, err error) {
	all := workloads()
	var patterns []string
	_, unmatched := selectWorkloads(all, p.Args)
	for _, a := range p.Args {
		st, statErr := os.Stat(a)
		switch {
		case !slices.Contains(unmatched, a) && !strings.Contains(a, "/"):
			patterns = append(patterns, a)
		case statErr == nil && st.IsDir():
			abs, err := filepath.Abs(a)
			if err != nil {
				return nil, fmt.Errorf("find directory: %w", err)
			}
			dirs = append(dirs, abs)
		default:
			return nil, fmt.Errorf("find %q: no workload matches it and no such directory exists; see mica bench --list", a)
		}
	}
	p.workloads, _ = selectWorkloads(all, patterns)
	if p.Quick && len(patterns) == 0 {
		p.workloads = slices.DeleteFunc(slices.Clone(p.workloads), func(w Workload) bool { return !w.Quick })
	}
	return dirs, nil
}

func (p *runPlan) takeUser() error {
	if p.User == "" {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("check options: only root can run the benchmark as another user")
	}
	u, err := user.Lookup(p.User)
	if err != nil {
		return fmt.Errorf("check options: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return fmt.Errorf("check options: %w", err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return fmt.Errorf("check options: %w", err)
	}
	p.credential, p.home = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, u.HomeDir
	return nil
}

// takeDir settles where the trees are made. Mount options separate by commas and colons, so a path has none.
func (p *runPlan) takeDir() error {
	if p.Dir == "" {
		cache, err := os.UserCacheDir()
		if p.credential != nil {
			cache, err = filepath.Join(p.home, ".cache"), nil
		}
		if err != nil {
			return fmt.Errorf("find a place for the trees: %w; name one with --dir DIR", err)
		}
		p.Dir = cache
	}
	abs, err := filepath.Abs(filepath.Join(p.Dir, "mica-bench"))
	if err != nil {
		return fmt.Errorf("find a place for the trees: %w", err)
	}
	if strings.ContainsAny(abs, ",:\\\"") {
		return fmt.Errorf("check options: %q holds a comma, colon, quote or backslash, which mount options cannot; name another with --dir DIR", abs)
	}
	p.Dir = abs
	return nil
}

// takePeers lists the peers: the built-in ones that are selected, then commands, then directories.
func (p *runPlan) takePeers(dirs []string) error {
	builtin := builtinPeers(p.Mica, p.MicaOptions)
	known := map[string]bool{}
	for _, b := range builtin {
		known[b.Name] = true
	}
	for _, name := range p.Peers {
		if !known[name] && !isToolPeer(name) {
			return fmt.Errorf("find peer %q: built in are %s; give others with --peer NAME=COMMAND", name, strings.Join(builtinNames(), ", "))
		}
	}
	for _, b := range builtin {
		if (len(p.Peers) == 0 && b.Name != peerDropIn) || slices.Contains(p.Peers, b.Name) {
			p.peers = append(p.peers, b)
		}
	}
	for _, x := range p.Extra {
		spec, err := parsePeer(x)
		if err != nil {
			return err
		}
		p.peers = append(p.peers, spec)
	}
	for _, d := range dirs {
		p.peers = append(p.peers, peerSpec{Name: filepath.Base(d), Kind: peerFlat, Dir: d})
	}
	seen := map[string]bool{}
	for i := range p.peers {
		for seen[p.peers[i].Name] {
			p.peers[i].Name += "'"
		}
		seen[p.peers[i].Name] = true
	}
	if p.Subject != "" && !seen[p.Subject] {
		return fmt.Errorf("find subject %q: no such peer takes part", p.Subject)
	}
	return nil
}

// wanted says whether a tool peer was selected.
func (p *runPlan) wanted(tool string) bool {
	return len(p.Peers) == 0 || slices.Contains(p.Peers, tool)
}

// extractImage copies the tree of an image in mica's store to a directory beside the fixtures, which becomes the root.
func (p *runPlan) extractImage(ctx context.Context) error {
	to := filepath.Join(p.Dir, "image")
	if err := claimDir(p.Dir); err != nil {
		return err
	}
	if err := removeTree(to); err != nil {
		return fmt.Errorf("make a place for the image: %w", err)
	}
	mnt := filepath.Join(p.Dir, "image-mount")
	if err := os.MkdirAll(mnt, 0o755); err != nil {
		return fmt.Errorf("make a place for the image: %w", err)
	}
	if _, err := output(exec.CommandContext(ctx, p.Mica, "mount", p.image, mnt)); err != nil {
		return fmt.Errorf("mount image %s: %w", p.image, err)
	}
	err := copyTree(mnt, to)
	_, umountErr := output(exec.CommandContext(context.WithoutCancel(ctx), p.Mica, "umount", mnt))
	p.Root = to
	return errors.Join(err, umountErr, os.Remove(mnt))
}

// environment describes the machine for the report.
func environment(p *runPlan) Environment {
	return Environment{
		Kernel: kernelRelease(), CPU: cpuModel(), CPUs: runtime.NumCPU(), MemoryMB: memoryMB(),
		Filesystem: filesystemOf(p.Dir), Root: os.Geteuid() == 0, User: p.User, Time: time.Now().UTC().Truncate(time.Second),
		Build: p.Build, Command: os.Args, Load: loadAverage(),
	}
}
