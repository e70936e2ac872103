// Package signals keeps the signals that a command gets, until it is known whom they are for: one that asks a command to end first cancels
// what that is about, and one that comes while a container is being started is for the container.
package signals

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Caught are those that this process gets. They are kept until somebody says what to do with them: one that comes while a
// container is being started is for the container.
type Caught struct {
	ch     chan os.Signal
	cancel context.CancelFunc

	mu   sync.Mutex // guards all below
	held []syscall.Signal
	to   func(syscall.Signal) // nil: nobody yet

	released bool
}

// Catch takes over every signal that does not concern this process alone. The context that it gives is cancelled
// by one that would have ended the process. The caller must Release.
func Catch(ctx context.Context) (context.Context, *Caught) {
	ctx, cancel := context.WithCancel(ctx)
	s := &Caught{ch: make(chan os.Signal, 16), cancel: cancel}
	for _, sig := range []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGTERM,
		unix.SIGCONT, unix.SIGIO, unix.SIGPWR, unix.SIGVTALRM, unix.SIGXCPU, unix.SIGXFSZ} {
		// What nohup has ignored is to end nothing. A shell has its background jobs ignore SIGINT and SIGQUIT, lest they end
		// with what is in the foreground, but one that is sent to this process is meant for the container.
		if sig == unix.SIGHUP && signal.Ignored(sig) {
			continue
		}
		signal.Notify(s.ch, sig)
	}
	go func() {
		for sig := range s.ch {
			s.take(sig.(syscall.Signal))
		}
	}()
	return ctx, s
}

// Ends tells whether a signal asks a process to end.
func Ends(sig syscall.Signal) bool {
	return slices.Contains([]syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM}, sig)
}

func (s *Caught) take(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.to != nil {
		s.to(sig)
		return
	}
	again := slices.ContainsFunc(s.held, Ends)
	s.held = append(s.held, sig)
	switch {
	case !Ends(sig):
	case again:
		s.obey(sig)
	default:
		s.cancel()
		time.AfterFunc(obeyAfter, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.to == nil && !s.released {
				s.obey(sig)
			}
		})
	}
}

// obeyAfter is how long what is under way may take to give up, before the signal has its usual effect.
const obeyAfter = 3 * time.Second

// obey lets a signal have its usual effect.
func (s *Caught) obey(sig syscall.Signal) {
	signal.Stop(s.ch)
	_ = unix.Kill(os.Getpid(), sig)
}

// HandOver says where signals go from now on, with those that have come already.
func (s *Caught) HandOver(to func(syscall.Signal)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sig := range s.held {
		to(sig)
	}
	s.held, s.to = nil, to
}

// Ended tells whether a signal has come that asks the process to end, and with which exit code a shell would report that.
func (s *Caught) Ended() (code int, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.held, Ends); i >= 0 {
		return 128 + int(s.held[i]), true
	}
	return 0, false
}

// Release gives the signals their usual effect back.
func (s *Caught) Release() {
	signal.Stop(s.ch)
	s.mu.Lock()
	s.released = true
	s.mu.Unlock()
	close(s.ch)
	s.cancel()
}
