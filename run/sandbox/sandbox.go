package sandbox

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// Main must be the first thing that main (or TestMain) calls. In a process that Start made it becomes the init of the
// sandbox and does not return; in any other process it returns at once.
func Main() {}

// ResolveIDs finds the mapping for the calling user.
func ResolveIDs(mode IDMode) (IDMap, error) { return IDMap{}, errors.New("resolve ids") }

// Sandbox is a running sandbox.
type Sandbox struct{ main *Process }

// Process is a process in a sandbox that was started by Start or Exec.
type Process struct{}

func start(ctx context.Context, cfg *Config) (*Sandbox, error) { return nil, errors.New("start") }

// Main returns the main process.
func (s *Sandbox) Main() *Process { return s.main }

// PID is the process id of init on the host.
func (s *Sandbox) PID() int { return 0 }

// Wait waits until the sandbox has ended and its root filesystem is unmounted and returns how the main process ended.
func (s *Sandbox) Wait() (ExitStatus, error) { return ExitStatus{}, nil }

// Kill ends the sandbox at once.
func (s *Sandbox) Kill() error { return nil }

// Exec starts another process in the sandbox.
func (s *Sandbox) Exec(ctx context.Context, spec *Spec) (*Process, error) { return nil, nil }

// PID is the process id inside the sandbox.
func (p *Process) PID() int { return 0 }

// TTY is the master side of the process's terminal, nil without one. The caller closes it.
func (p *Process) TTY() *os.File { return nil }

// Signal sends sig to the process.
func (p *Process) Signal(sig syscall.Signal) error { return nil }

// Resize sets the size of the process's terminal.
func (p *Process) Resize(size Size) error { return nil }

// Wait waits until the process has ended.
func (p *Process) Wait() (ExitStatus, error) { return ExitStatus{}, nil }
