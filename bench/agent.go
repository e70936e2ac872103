package bench

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// AgentCommand is the hidden subcommand by which Run starts its agents.
const AgentCommand = "__agent"

// messageFD is the descriptor on which an agent writes its messages.
const messageFD = 3

// Agent is the main function of an agent: it reads one task from standard input, does it and answers on descriptor 3.
// It returns the exit code of the process.
func Agent() int {
	unix.CloseOnExec(messageFD) // not for the programs that the agent starts
	out := os.NewFile(messageFD, "messages")
	a := &agent{in: bufio.NewReader(os.Stdin), out: json.NewEncoder(out)}
	start := time.Now()
	s, err := a.serve()
	m := message{Result: s}
	if err != nil {
		m = message{Err: err.Error()}
	} else if s != nil {
		s.Took = time.Since(start)
	}
	if err := a.out.Encode(m); err != nil {
		fmt.Fprintln(os.Stderr, "mica: answer:", err)
		return 1
	}
	return 0
}

type agent struct {
	in  *bufio.Reader
	out *json.Encoder
}

func (a *agent) serve() (*sample, error) {
	line, err := a.in.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("read task: %w", err)
	}
	t := &task{}
	if err := json.Unmarshal(line, t); err != nil {
		return nil, fmt.Errorf("decode task: %w", err)
	}
	unix.Umask(0o022)
	if err := isolate(t); err != nil {
		return nil, err
	}
	switch t.Do {
	case "fixture":
		return &sample{}, makeFixture(t.Fixture, t.FixtureName, t)
	case "remove":
		return &sample{}, removeTree(t.Scratch)
	case "probe":
		return a.probe(t)
	case "sample":
		w, err := findWorkload(t.Workload)
		if err != nil {
			return nil, err
		}
		s, err := a.sample(t, w)
		return s, errors.Join(err, removeTree(t.Scratch))
	}
	return nil, fmt.Errorf("do task %q: there is none of that name", t.Do)
}

// isolate finishes what the clone flags began: private mounts and a /proc of the new pid namespace. Without namespaces,
// servers that go to the background become children of the agent, so that it finds and ends them.
func isolate(t *task) error {
	if !t.Namespaces {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("become subreaper: %w", err)
		}
		return nil
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc of the namespace: %w", err)
	}
	return nil
}

// probe mounts the peer once over an empty layer, to see whether it is there.
func (a *agent) probe(t *task) (*sample, error) {
	defer removeTree(t.Scratch) //nolint:errcheck // the session removes the whole directory at its end
	e, err := newEnv(t)
	if err != nil {
		return nil, err
	}
	if err := e.open(&Workload{Fixture: "empty"}); err != nil {
		return nil, err
	}
	_, err = os.Stat(e.root)
	return &sample{}, errors.Join(err, e.unmount())
}

func (a *agent) sample(t *task, w *Workload) (*sample, error) {
	e, err := newEnv(t)
	if err != nil {
		return nil, err
	}
	if w.Kind == OnTool {
		return a.sampleTool(e, w)
	}
	if err := e.open(w); err != nil {
		return nil, errors.Join(err, e.unmount())
	}
	s, err := a.measure(e, w)
	return s, errors.Join(err, e.unmount())
}

// measure prepares, measures and verifies in a mounted tree.
func (a *agent) measure(e *env, w *Workload) (*sample, error) {
	if w.prepare != nil {
		if err := w.prepare(e); err != nil {
			return nil, fmt.Errorf("prepare: %w", err)
		}
	}
	s := &sample{ServerCPU: -1}
	if w.Cold {
		var err error
		if s.Dropped, err = a.dropCaches(); err != nil {
			return nil, err
		}
	} else if !w.Once {
		if _, err := w.pass(e); err != nil {
			return nil, fmt.Errorf("warm up: %w", err)
		}
	}
	before := e.observeBefore()
	times, err := runPasses(e, w, s)
	if err != nil {
		return nil, err
	}
	e.observeAfter().since(before, len(times), s)
	s.Passes, s.Value, s.Note = len(times), median(times), e.note
	if w.Unit == "kB" {
		s.Value = float64(s.ServerKB)
	}
	if w.answer != nil {
		if s.Answer, err = w.answer(e); err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
	}
	if e.t.Peer.Kind == peerFlat && w.undo != nil {
		if err := w.undo(e); err != nil {
			return nil, fmt.Errorf("undo: %w", err)
		}
	}
	return s, nil
}

// runPasses times passes: one of a workload that changes what it measures, else as many as fill the scale's time, and
// three at least.
func runPasses(e *env, w *Workload, s *sample) ([]float64, error) {
	var times []float64
	budget := time.Duration(e.t.Scale.MinPassMillis) * time.Millisecond
	for total := time.Duration(0); ; { // of wall time, whatever a pass says of itself
		e.elapsed = 0
		start := time.Now()
		ops, err := w.pass(e)
		took := time.Since(start)
		if err != nil {
			return nil, err
		}
		total += took
		if e.elapsed > 0 {
			took = e.elapsed
		}
		s.Ops = ops
		times = append(times, took.Seconds())
		if w.Cold || w.Once || (total >= budget && (len(times) >= 3 || total >= 10*budget)) {
			return times, nil
		}
	}
}

// dropCaches asks the parent, who may be root, to drop the kernel's caches.
func (a *agent) dropCaches() (bool, error) {
	if err := a.out.Encode(message{Ask: "drop"}); err != nil {
		return false, fmt.Errorf("ask for cold caches: %w", err)
	}
	line, err := a.in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("ask for cold caches: %w", err)
	}
	return line == "dropped\n", nil
}

// sampleTool measures a program that needs no mount.
func (a *agent) sampleTool(e *env, w *Workload) (*sample, error) {
	for _, v := range w.variants {
		if v.peer != e.t.Peer.Name {
			continue
		}
		if v.teardown != nil {
			defer v.teardown(e)
		}
		if v.setup != nil {
			if err := v.setup(e); err != nil {
				return nil, fmt.Errorf("set up: %w", err)
			}
		}
		s := &sample{ServerCPU: -1}
		times, err := runPasses(e, &Workload{Once: w.Once, pass: v.pass}, s)
		if err != nil {
			return nil, err
		}
		if v.answer != nil {
			if e.found, err = v.answer(e); err != nil {
				return nil, fmt.Errorf("verify: %w", err)
			}
		}
		s.Passes, s.Value, s.Answer, s.Note = len(times), median(times), e.found, e.note
		return s, nil
	}
	return nil, fmt.Errorf("find variant %q of %s: there is none", e.t.Peer.Name, w.Name)
}

// env is what a workload sees.
type env struct {
	t   *task
	fix *fixture
	// root is the tree to work in; tmp is a directory outside of it for outputs.
	root, tmp string
	mounted   bool
	servers   []int

	// State of the running workload, passed from prepare to pass to answer.
	files, dirs, absent []string
	found               string
	elapsed             time.Duration // set by a pass that knows its time better
	note                string
}

func newEnv(t *task) (*env, error) {
	e := &env{t: t, fix: &fixture{dir: t.Fixture, layers: t.Layers}, root: filepath.Join(t.Scratch, "m"), tmp: filepath.Join(t.Scratch, "tmp")}
	for _, d := range []string{"m", "u", "w", "tmp"} {
		if err := os.MkdirAll(filepath.Join(t.Scratch, d), 0o755); err != nil {
			return nil, fmt.Errorf("make scratch directory: %w", err)
		}
	}
	return e, nil
}

// open makes the workload's tree appear at root.
func (e *env) open(w *Workload) error {
	if e.t.Peer.Kind != peerFlat {
		return e.mount()
	}
	switch {
	case w.Fixture == "":
		return nil
	case w.Mutates && w.undo == nil:
		return copyTree(e.fix.flat(), e.root)
	}
	e.root = e.fix.flat()
	return nil
}

// path is a path in the tree.
func (e *env) path(elem ...string) string {
	return filepath.Join(append([]string{e.root}, elem...)...)
}
