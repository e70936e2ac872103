package supervise

import (
	"errors"
	"time"

	"mica/run/record"
)

// loop waits for the container, and starts it again as its policy says.
func (s *supervisor) loop(sess *session) {
	for restarts, delay := 0, firstDelay; ; restarts++ {
		began := time.Now()
		code := sess.wait(s)
		if time.Since(began) > 10*time.Second {
			delay = firstDelay
		}
		s.mu.Lock()
		s.session = nil
		s.exitCode = code
		st := &s.c.State
		st.ExitCode, st.FinishedAt, st.PID = code, time.Now().UTC(), 0
		again := !s.stopped && restartWanted(s.c.RestartPolicy(), code, restarts)
		if again {
			st.Status = record.Restarting
			st.Restarts++
			_ = s.c.WriteState()
			close(s.over)
			s.over = make(chan struct{})
		}
		s.mu.Unlock()
		if !again || !s.pause(delay) {
			return
		}
		delay = min(2*delay, longestDelay)
		var err error
		sess, err = s.begin(func() {})
		if errors.Is(err, errStopped) {
			return
		}
		if err != nil {
			s.mu.Lock()
			s.c.State.Error = err.Error()
			s.exitCode = 125
			s.mu.Unlock()
			return
		}
	}
}

// The pauses before a container is started again, doubled each time.
const (
	firstDelay   = 100 * time.Millisecond
	longestDelay = time.Minute
)

// pause waits before a restart. It tells whether that is still wanted.
func (s *supervisor) pause(d time.Duration) bool {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-deadline.C:
			return !s.isStopped()
		case <-poll.C:
			if s.isStopped() {
				return false
			}
		}
	}
}

func (s *supervisor) isStopped() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopped
}

func restartWanted(p record.RestartPolicy, code, restarts int) bool {
	switch p.Name {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return code != 0 && (p.MaxRetries == 0 || restarts < p.MaxRetries)
	}
	return false
}
