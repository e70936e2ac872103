package supervise

import (
	"bytes"
	"context"
	"sync"
	"time"

	"mica/layerstore"
	"mica/run/control"
	"mica/run/record"
	"mica/run/sandbox"
)

// healthMonitor runs the health check of one session.
type healthMonitor struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// stop ends the monitor and waits for it. A nil monitor is none.
func (m *healthMonitor) stop() {
	if m != nil {
		m.cancel()
		<-m.done
	}
}

// The defaults that Docker documents.
const (
	defaultHealthInterval = 30 * time.Second
	defaultHealthTimeout  = 30 * time.Second
	defaultHealthRetries  = 3
	healthLogLength       = 5
	healthOutputLimit     = 4096
)

// watchHealth starts the health check, where there is one. s.mu is held.
func (s *supervisor) watchHealth(sess *session) *healthMonitor {
	check := s.c.Config.Container.Healthcheck
	args := healthCommand(check, s.c.Config.Container.Shell)
	if args == nil {
		return nil
	}
	s.c.State.Health = &record.Health{Status: "starting"}
	ctx, cancel := context.WithCancel(context.Background())
	m := &healthMonitor{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		s.healthLoop(ctx, sess, check, args)
	}()
	return m
}

// healthCommand is the command line of a health check, nil for none.
func healthCommand(check *layerstore.Healthcheck, shell []string) []string {
	if check == nil || len(check.Test) < 2 {
		return nil
	}
	switch check.Test[0] {
	case "CMD":
		return check.Test[1:]
	case "CMD-SHELL":
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(append([]string(nil), shell...), check.Test[1])
	}
	return nil
}

func (s *supervisor) healthLoop(ctx context.Context, sess *session, check *layerstore.Healthcheck, args []string) {
	orDefault := func(d, def time.Duration) time.Duration {
		if d > 0 {
			return d
		}
		return def
	}
	interval := orDefault(check.Interval, defaultHealthInterval)
	began := time.Now()
	for {
		wait := interval
		if check.StartPeriod > 0 && time.Since(began) < check.StartPeriod {
			wait = min(interval, orDefault(check.StartInterval, 5*time.Second))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if s.isPaused() {
			continue
		}
		result := sess.probe(ctx, args, orDefault(check.Timeout, defaultHealthTimeout))
		if ctx.Err() != nil {
			return
		}
		s.noteHealth(check, result, time.Since(began) < check.StartPeriod)
	}
}

// noteHealth records one result. Failures count only after the start period.
func (s *supervisor) noteHealth(check *layerstore.Healthcheck, r record.HealthResult, starting bool) {
	retries := check.Retries
	if retries == 0 {
		retries = defaultHealthRetries
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.c.State.Health
	h.Log = append(h.Log, r)
	if len(h.Log) > healthLogLength {
		h.Log = h.Log[len(h.Log)-healthLogLength:]
	}
	switch {
	case r.ExitCode == 0:
		h.Status, h.FailingStreak = "healthy", 0
	case starting && h.Status == "starting":
	default:
		if h.FailingStreak++; h.FailingStreak >= retries {
			h.Status = "unhealthy"
		}
	}
	_ = s.c.WriteState()
}

// probe runs the check once.
func (sess *session) probe(ctx context.Context, args []string, timeout time.Duration) record.HealthResult {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := record.HealthResult{Start: time.Now().UTC(), ExitCode: -1}
	fail := func(err error) record.HealthResult {
		r.End, r.Output = time.Now().UTC(), err.Error()
		return r
	}
	spec, err := sess.execSpec(&control.Exec{Args: args})
	if err != nil {
		return fail(err)
	}
	p, io, err := sess.startProcess(spec, noInput, func(spec *sandbox.Spec) (*sandbox.Process, error) {
		return sess.box.Exec(ctx, spec)
	})
	if err != nil {
		return fail(err)
	}
	var mu sync.Mutex
	var out bytes.Buffer
	io.pump(func(_ control.Kind, data []byte) {
		mu.Lock()
		out.Write(data[:min(len(data), healthOutputLimit-min(healthOutputLimit, out.Len()))])
		mu.Unlock()
	})
	stop := context.AfterFunc(ctx, func() { _ = p.Signal(9) })
	defer stop()
	status, err := p.Wait()
	io.finish(outputGrace)
	if err != nil {
		return fail(err)
	}
	r.End, r.ExitCode, r.Output = time.Now().UTC(), status.Code, out.String()
	if ctx.Err() != nil {
		r.ExitCode, r.Output = -1, "health check took longer than "+timeout.String()
	}
	return r
}
