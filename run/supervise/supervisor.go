// Package supervise is the process that looks after one running container, and how a command starts it: the two sides of that meet
// in spawn.go.
//
// A supervisor opens the tree of its container and serves it, starts the sandbox, owns the streams of every process in it, keeps
// the log, does what commands ask for over the socket (package control), and starts the container anew where its policy
// says so. It writes the container's state, whose lock it holds to its end.
//
//	supervisor   the life of the container, over all its runs
//	session      one run: tree, sandbox, volumes, desktop
//	process      the streams of one process
//	hub          output to the log and to attached clients, input from them
//
// # Locks
//
//	supervisor.mu    state of the container and its current session
//	  hub.mu         attached clients
//	    client.mu    what is on its way to one of them
//	    inputPipe.mu what is on its way to a process
//	  Writer.mu      of the log
package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/signame"
	"mica/layerstore"
	"mica/run/control"
	"mica/run/limits"
	"mica/run/record"
	"mica/run/sandbox"
	"mica/run/tree"
)

// fdCommand is the descriptor that a supervisor inherits; see spawn.
const fdCommand = 3

// Engine is what a supervisor cannot do itself, since it takes the store or other containers.
type Engine interface {
	// CommitTree makes an image of the changes in the tree of a container and gives its ID.
	CommitTree(ctx context.Context, t *tree.Tree, cfg *record.Config, opt layerstore.CommitOptions) (string, error)
	// ImageLayers gives the layers of an image, topmost first.
	ImageLayers(ctx context.Context, imageID string) ([]string, error)
	// RemoveAnonymous deletes the volumes of a container that is gone.
	RemoveAnonymous(cfg *record.Config) error
}

// supervisor looks after one running container.
type supervisor struct {
	engine Engine
	c      *record.Container
	lock   *record.Lock
	start  *control.Start
	ahead  *sandbox.Ahead // for the first run
	hub    *hub

	mu        sync.Mutex // guards all below, and c.State
	session   *session   // what runs now; nil between two runs
	stopped   bool       // the user wants it to end: no policy starts it again
	signalled bool       // this process was told to end before that, as when the machine stops: no wish of the user's
	keepers   int        // those who will start it again: while there are any, it is not removed when it ends
	ended     chan struct{}
	over      chan struct{}  // closed, and made anew, when a run is over after which another one comes
	exitCode  int            // of the last run
	vanished  bool           // a container that is removed when it ends has ended, and is out of sight
	told      sync.WaitGroup // of the end, before this process ends; joined before ended is closed
}

// Main is the whole life of a supervisor. open gives what looks after the store at root. scoped says that it has a cgroup of its
// own to make another one in.
func Main(scoped bool, open func(root string) (Engine, error)) int {
	unix.CloseOnExec(fdCommand)
	var ahead *sandbox.Ahead
	var scopeErr error
	if scoped {
		scopeErr = limits.StepAside()
	} else {
		ahead = sandbox.StartAhead()
	}
	sock := os.NewFile(fdCommand, "command")
	lockFile, err := receiveLock(sock)
	if err != nil || lockFile == nil {
		return 1 // the command has changed its mind
	}
	conn := control.NewConn(sock)
	var req control.Request
	kind, payload, err := conn.Recv()
	if err != nil || kind != control.KindRequest {
		return 1
	}
	if err := control.Decode(payload, &req); err != nil || req.Op != control.OpStart || req.Start == nil {
		_ = conn.SendError(errors.New("start the supervisor: no request to start"))
		return 1
	}
	e, err := open(req.Start.Root)
	var c *record.Container
	if err == nil {
		err = scopeErr
	}
	if err == nil {
		c, err = record.Load(req.Start.Dir)
	}
	if err == nil {
		err = speakInto(req.Start.Dir)
	}
	if err != nil {
		_ = conn.SendError(err)
		return 1
	}
	s := &supervisor{engine: e, c: c, lock: record.InheritLock(lockFile), start: req.Start, ahead: ahead,
		hub: newHub(c), ended: make(chan struct{}), over: make(chan struct{})}
	if err := s.run(conn); err != nil {
		_ = conn.SendError(err)
		return 1
	}
	return 0
}

// run starts the container, serves requests, and returns when it has ended
// for good. An error means that it did not start.
func (s *supervisor) run(conn *control.Conn) error {
	listener, err := control.Listen(s.c.Path())
	if err != nil {
		s.fail(err)
		return err
	}
	defer listener.Close()
	var first *client
	if a := s.start.Attach; a != nil {
		first = newClient(conn, a)
		s.hub.attach(first)
	}
	sess, err := s.begin(func() {
		go s.accept(listener)
		go s.obeySignals()
		if conn.SendJSON(control.KindOK, nil) == nil {
			go s.serveStart(conn, first)
		}
	})
	if err != nil {
		s.hub.log.Close()
		if first != nil {
			s.hub.detach(first)
		}
		s.fail(err)
		return err
	}
	s.loop(sess)
	s.finish()
	return nil
}

// fail records that the container did not start, or forgets it altogether.
func (s *supervisor) fail(err error) {
	code := 125
	var coded *control.Error
	if errors.As(err, &coded) && coded.Code != 0 {
		code = coded.Code
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c.Config.Host.AutoRemove && !s.start.Restart {
		if s.c.Vanish() == nil {
			_ = s.engine.RemoveAnonymous(s.c.Config)
			_ = s.c.Discard()
		}
	} else {
		if s.start.Restart {
			s.c.State.Status, s.c.State.FinishedAt = record.Exited, time.Now().UTC()
		} else {
			s.c.State.Status = record.Created
		}
		s.c.State.ExitCode, s.c.State.Error = code, err.Error()
		s.c.State.PID, s.c.State.Supervisor = 0, 0
		_ = s.c.WriteState()
	}
	s.lock.Release()
}

// vanish puts a container that is removed when it ends out of sight, and tells those who wait for it. To clear away what it
// ran in takes the kernel a while, for which nobody has to wait.
func (s *supervisor) vanish(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vanished || !s.c.Config.Host.AutoRemove || s.keepers > 0 {
		return
	}
	_ = s.hub.log.Close() // who reads it must have seen its end
	if s.c.Vanish() != nil {
		return
	}
	s.vanished, s.exitCode = true, code
	close(s.ended)
	s.told.Go(func() { s.hub.finish(code) })
}

// finish writes the last state, gives the container up, and only then tells
// those who wait, so that whatever they do next finds it free.
func (s *supervisor) finish() {
	_ = s.hub.log.Close()
	s.vanish(s.exitCode) // if it has not yet
	s.mu.Lock()
	vanished := s.vanished
	if !vanished {
		st := &s.c.State
		st.Status, st.ExitCode, st.PID, st.Supervisor = record.Exited, s.exitCode, 0, 0
		st.Stopped = s.stopped && !s.signalled
		if st.Health != nil {
			st.Health.Status = "unhealthy"
		}
		_ = s.c.WriteState()
		s.lock.Release()
		close(s.ended)
		s.told.Go(func() { s.hub.finish(s.exitCode) })
	}
	s.mu.Unlock()
	if vanished {
		_ = s.engine.RemoveAnonymous(s.c.Config)
		_ = s.c.Discard()
		s.lock.Release()
	}
	s.told.Wait()
}

// accept serves connections until the listener closes.
func (s *supervisor) accept(l *net.UnixListener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go s.serve(control.NewConn(c))
	}
}

// obeySignals ends the container when this process is told to end.
func (s *supervisor) obeySignals() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGTERM, unix.SIGINT)
	signal.Ignore(unix.SIGHUP)
	for range ch {
		s.mu.Lock()
		s.signalled = s.signalled || !s.stopped
		s.mu.Unlock()
		_ = s.stop(context.Background(), 0, nil, false)
	}
}

// stop asks the main process to end and kills the container when it has not
// done so in time, whether or not the caller still waits for that. sig 0 is the container's own stop signal; keep says that
// the caller will start it again. It returns when it has ended for good.
func (s *supervisor) stop(ctx context.Context, sig int, timeout *float64, keep bool) error {
	s.mu.Lock()
	s.stopped = true
	if keep {
		s.keepers++
	}
	sess := s.session
	s.mu.Unlock()
	if sess != nil {
		signal := unix.SIGTERM
		if sig != 0 {
			signal = unix.Signal(sig)
		} else if name := s.c.Config.Container.StopSignal; name != "" {
			if parsed, err := signame.Parse(name); err == nil {
				signal = parsed
			}
		}
		limit := 10 * time.Second
		if t := s.c.Config.Container.StopTimeout; t != nil {
			limit = time.Duration(*t) * time.Second
		}
		if timeout != nil {
			limit = time.Duration(*timeout * float64(time.Second))
		}
		if err := sess.box.Main().Signal(signal); err != nil {
			_ = sess.box.Kill()
		}
		s.resumeAfterSignal()
		if limit >= 0 {
			time.AfterFunc(limit, func() { _ = sess.box.Kill() })
		}
	}
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
		if keep { // there will be no start after it
			s.mu.Lock()
			s.keepers--
			s.mu.Unlock()
		}
		return fmt.Errorf("stop the container: %w", ctx.Err())
	}
}

// keepUntilTold keeps this process alive for somebody who waits for the end of the container, until done is called.
func (s *supervisor) keepUntilTold() (done func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ended:
		return func() {}
	default:
		s.told.Add(1)
		return s.told.Done
	}
}

// waitExit gives the exit code of the current run, or of the last one where the container has to have ended for good.
func (s *supervisor) waitExit(ctx context.Context, forGood bool) (int, error) {
	s.mu.Lock()
	over := s.over
	s.mu.Unlock()
	if forGood {
		over = nil
	}
	select {
	case <-over:
	case <-s.ended:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exitCode, nil
}

// current gives what runs now.
func (s *supervisor) current() (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.session == nil {
		return nil, errNotRunning
	}
	return s.session, nil
}

// kill sees to it that no policy starts the container again. One that waits to be started again ends by that alone.
func (s *supervisor) kill() (waiting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	return s.session == nil
}

// resumeAfterSignal lets a paused container go on, which would not see the signal otherwise.
func (s *supervisor) resumeAfterSignal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.resume() // it may just have ended
}

// errStopped says that the user has stopped the container while it was being started again.
var errStopped = errors.New("the container was stopped")

var errNotRunning = errors.New("the container is not running")
