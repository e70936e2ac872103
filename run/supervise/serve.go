package supervise

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"mica/run/control"
	"mica/run/sandbox"
)

// serveStart handles the connection of the command that started the
// container: it streams if that wants to, and tells the exit code either way.
func (s *supervisor) serveStart(conn *control.Conn, c *client) {
	if c == nil {
		conn.Close()
		return
	}
	s.stream(conn, c, s.start.Attach.Stdin)
	if s.c.Config.Step != "" { // it is of no use to anybody else
		s.kill()
		if sess, err := s.current(); err == nil {
			_ = sess.box.Kill()
		}
	}
}

// stream handles an attached client until it leaves. At the end of the container it is
// told by the hub.
func (s *supervisor) stream(conn *control.Conn, c *client, stdin bool) {
	input := s.hub.input
	if !stdin {
		input = func() *inputPipe { return nil }
	}
	readStreams(conn, input, func(size control.Size) {
		if sess, err := s.current(); err == nil {
			sess.resize(size)
		}
	}, func(sig int) {
		if sess, err := s.current(); err == nil {
			_ = sess.box.Main().Signal(syscall.Signal(sig))
		}
	})
	s.hub.detach(c)
	conn.Close()
}

// serve handles one connection over the socket.
func (s *supervisor) serve(conn *control.Conn) {
	kind, payload, err := conn.Recv()
	if err != nil || kind != control.KindRequest {
		conn.Close()
		return
	}
	var req control.Request
	if err := control.Decode(payload, &req); err != nil {
		_ = conn.SendError(err)
		conn.Close()
		return
	}
	if req.Op == control.OpAttach && req.Attach != nil {
		s.serveAttach(conn, req.Attach)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if req.Op != control.OpExec && req.Op != control.OpCopyIn { // the client has said all that it has to say
		go func() {
			_, _, _ = conn.Recv()
			cancel()
		}()
	}
	if err := s.handle(ctx, conn, &req); err != nil {
		_ = conn.SendError(err)
	}
}

func (s *supervisor) serveAttach(conn *control.Conn, a *control.Attach) {
	s.mu.Lock()
	select {
	case <-s.ended:
		s.mu.Unlock()
		_ = conn.SendError(errNotRunning)
		conn.Close()
		return
	default:
	}
	c := newClient(conn, a)
	_ = conn.SendJSON(control.KindOK, nil)
	s.hub.attach(c)
	s.mu.Unlock()
	if a.Size != nil {
		if sess, err := s.current(); err == nil {
			sess.resize(*a.Size)
		}
	}
	s.stream(conn, c, a.Stdin)
}

// handle does one request other than attaching.
func (s *supervisor) handle(ctx context.Context, conn *control.Conn, req *control.Request) error {
	switch req.Op {
	case control.OpSignal:
		if syscall.Signal(req.Signal) == syscall.SIGKILL && s.kill() {
			return conn.SendJSON(control.KindOK, nil)
		}
		sess, err := s.current()
		if err != nil {
			return err
		}
		if err := sess.box.Main().Signal(syscall.Signal(req.Signal)); err != nil {
			return err
		}
		s.resumeAfterSignal()
		return conn.SendJSON(control.KindOK, nil)
	case control.OpStop:
		if err := s.stop(ctx, req.Signal, req.Timeout, req.Keep); err != nil {
			return err
		}
		return conn.SendJSON(control.KindOK, nil)
	case control.OpPause, control.OpUnpause:
		if err := s.setPaused(req.Op == control.OpPause); err != nil {
			return err
		}
		return conn.SendJSON(control.KindOK, nil)
	case control.OpWait:
		defer s.keepUntilTold()()
		code, err := s.waitExit(ctx, req.ForGood)
		if err != nil {
			return err
		}
		return conn.SendJSON(control.KindExit, control.Exit{Code: code})
	case control.OpExec:
		return s.exec(ctx, conn, req.Exec)
	case control.OpPids:
		sess, err := s.current()
		if err != nil {
			return err
		}
		pids, err := processesOf(sess.box.PID())
		if err != nil {
			return err
		}
		return conn.SendJSON(control.KindOK, control.PidList{Pids: pids})
	}
	return s.handleTree(ctx, conn, req)
}

// exec starts a further process and streams it.
func (s *supervisor) exec(ctx context.Context, conn *control.Conn, x *control.Exec) error {
	if x == nil || len(x.Args) == 0 {
		return fmt.Errorf("exec: no command")
	}
	sess, err := s.current()
	if err != nil {
		return err
	}
	if s.isPaused() {
		return fmt.Errorf("container %s is paused: let it go on with \"mica unpause %s\" first", s.c.Config.Name, s.c.Config.Name)
	}
	spec, err := sess.execSpec(x)
	if err != nil {
		return err
	}
	in := noInput
	if x.Stdin {
		in = onceInput
	}
	p, io, err := sess.startProcess(spec, in, func(spec *sandbox.Spec) (*sandbox.Process, error) {
		return sess.box.Exec(ctx, spec)
	})
	if errors.Is(err, sandbox.ErrEnded) {
		return errNotRunning
	}
	if err != nil {
		return codedError(err)
	}
	if err := conn.SendJSON(control.KindOK, nil); err != nil || x.Detach {
		go func() {
			io.discard()
			_, _ = p.Wait()
		}()
		return nil
	}
	go readStreams(conn, func() *inputPipe { return io.stdin }, io.resize, func(sig int) { _ = p.Signal(syscall.Signal(sig)) })
	io.pump(func(kind control.Kind, data []byte) { _ = conn.Send(kind, data) })
	status, err := p.Wait()
	io.finish(outputGrace)
	if errors.Is(err, sandbox.ErrEnded) {
		status.Code, err = 128+int(syscall.SIGKILL), nil // as all that is left when the main process ends
	}
	if err != nil {
		return fmt.Errorf("wait for the process: %w", err)
	}
	return conn.SendJSON(control.KindExit, control.Exit{Code: status.Code})
}

// outputGrace is how long output is waited for when a process has ended but
// another one still holds its pipes.
const outputGrace = 200 * time.Millisecond
