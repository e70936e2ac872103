package record

import (
	"fmt"
	"time"
)

// Status is the stage of a container's life, in Docker's words.
type Status string

// The stages. Dead is never written: it is what a container is found to be
// whose state says running while nobody holds its lock.
const (
	Created    Status = "created"
	Running    Status = "running"
	Restarting Status = "restarting"
	Paused     Status = "paused" // all its processes are stopped
	Exited     Status = "exited"
	Dead       Status = "dead"
)

// State is what became of a container.
type State struct {
	Status     Status
	PID        int `json:",omitempty"` // of the container's init, as the host sees it
	Supervisor int `json:",omitempty"` // process id
	ExitCode   int
	Error      string `json:",omitempty"` // why it did not start
	StartedAt  time.Time
	FinishedAt time.Time
	Restarts   int     `json:",omitempty"`
	Stopped    bool    `json:",omitempty"` // by the user's wish, so no policy starts it again
	Health     *Health `json:",omitempty"`
}

// Health is what the health check has found.
type Health struct {
	Status        string // starting, healthy, unhealthy
	FailingStreak int
	Log           []HealthResult `json:",omitempty"` // the last five
}

// HealthResult is one run of the health check.
type HealthResult struct {
	Start, End time.Time
	ExitCode   int
	Output     string
}

// Alive tells whether a supervisor looks after the container.
func (s *State) Alive() bool {
	return s.Status == Running || s.Status == Restarting || s.Status == Paused
}

// Describe says the state in Docker's words for the column STATUS.
func (s *State) Describe(now time.Time, ago func(time.Duration) string) string {
	switch s.Status {
	case Running, Paused:
		text := "Up " + ago(now.Sub(s.StartedAt))
		if s.Status == Paused {
			return text + " (Paused)"
		}
		if s.Health != nil {
			if s.Health.Status == "starting" {
				return text + " (health: starting)"
			}
			return text + " (" + s.Health.Status + ")"
		}
		return text
	case Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, ago(now.Sub(s.FinishedAt)))
	case Exited:
		return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, ago(now.Sub(s.FinishedAt)))
	case Dead:
		return "Dead"
	}
	return "Created"
}
