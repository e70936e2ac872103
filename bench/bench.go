// Package bench measures union filesystems and container tools against each other.
//
// One run takes a list of workloads and a list of peers (a plain directory, kernel overlayfs, FUSE servers, any mount
// command, existing directories) and measures every pair several times, interleaved: all pairs once, then all pairs again.
// A sample is taken by an agent: a child process that enters a user, mount and pid namespace of its own, mounts the
// peer over a generated fixture, runs the workload, checks its answer and goes away with everything it started. So all
// peers are measured under the same conditions, without privilege, and a sample leaves nothing mounted behind.
//
//	Run (parent) ── task, JSON on stdin ──────────▶ agent ──▶ mount, prepare, [cold], measure, verify
//	      ▲ ◀── messages, JSON lines on fd 3 ─────────┘
//	      └── collects samples, drops caches on request when it is root, renders the report
//
// A workload's answer (a count or checksum) must be the same on every peer; the plain directory is the reference. The
// package drives programs only: it imports nothing of the rest of mica.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// ErrWrong is returned by Run, wrapped, when a workload gave a wrong answer on any peer or failed on the subject. The
// report is complete all the same.
var ErrWrong = errors.New("benchmark found wrong results")

// Options says what to run. The zero value of a field means its default as documented.
type Options struct {
	// Args are the positional arguments: names or globs of workloads, and existing directories to measure as peers.
	Args []string
	// Peers selects among the built-in peers by name; empty means all that are there.
	Peers []string
	// Extra are further peers, each NAME=COMMAND.
	Extra []string
	// MicaOptions are appended to the mount options of the peer "mica".
	MicaOptions []string
	// Subject is the peer that the ratios are of; default "mica", else the last peer.
	Subject string
	// Runs is the number of interleaved repetitions; default 5, or 3 when Quick.
	Runs int
	// Quick takes small fixtures and the cheap workloads only.
	Quick bool
	// Dir is where fixtures and scratch trees are made; default: the user's cache directory.
	Dir string
	// Keep leaves the fixtures for the next run.
	Keep bool
	// Root is a root filesystem to measure over instead of the synthetic one.
	Root string
	// Image is an image in mica's store to measure over instead of the synthetic tree.
	Image string
	// Deb is the package for the dpkg workload; default: repacked from an installed one.
	Deb string
	// User runs the agents as this user; only root may ask for it.
	User string
	// Timeout bounds one sample; default 10 minutes.
	Timeout time.Duration
	// Mica is the binary under test; default: this executable. Build says in the report which build it is.
	Mica, Build string
	// Agent is the command that starts an agent; default: this executable with "bench __agent".
	Agent []string
	// Progress receives the progress bar; nil for none.
	Progress io.Writer
	// Log receives one line for each thing left out and why; nil for none.
	Log io.Writer

	// sizes takes the place of the full or quick ones in tests.
	sizes *scale
}

// Run measures and returns the report. When ctx is cancelled half-way it returns what was measured so far, with
// Report.Interrupted set. An error that wraps ErrWrong comes with a complete report.
func Run(ctx context.Context, opt Options) (*Report, error) {
	p, err := plan(opt)
	if err != nil {
		return nil, err
	}
	if p.image != "" {
		if err := p.extractImage(ctx); err != nil {
			return nil, err
		}
	}
	s, err := newSession(p)
	if err != nil {
		return nil, err
	}
	rep, err := s.run(ctx)
	if err = errors.Join(err, s.close()); err != nil {
		return rep, err
	}
	return rep, rep.verdict()
}

// List returns all workloads in the order in which they run.
func List() []Workload { return workloads() }

// defaultAgent is the command line by which this executable becomes an agent.
func defaultAgent() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own executable: %w", err)
	}
	return []string{self, "bench", AgentCommand}, nil
}
