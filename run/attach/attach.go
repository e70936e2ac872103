// Package attach connects a command to a process of a container: terminal, streams, signals, and the keys that leave it.
// The other side is the container's supervisor.
package attach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"mica/internal/signals"
	"mica/run/control"
)

// ErrDetached says that the user left a container that goes on running.
var ErrDetached = errors.New("detached")

// ErrOutput says that what the process wrote could not be passed on: nobody reads any more, or a disk is full.
var ErrOutput = errors.New("write the container's output")

// Options say how a client is connected to a process.
type Options struct {
	In         *os.File // nil: no input
	Out, Err   io.Writer
	TTY        bool   // the process has a terminal; In is put into raw mode if it is one
	SigProxy   bool   // pass on the signals that this process gets
	DetachKeys []byte // nil: none

	Signals *signals.Caught // caught already; nil: from now on
}

// DefaultDetachKeys leave a container without ending it.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// TerminalSize is the size of the terminal that f is, or nil.
func TerminalSize(f *os.File) *control.Size {
	if f == nil {
		return nil
	}
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return nil
	}
	return &control.Size{Rows: ws.Row, Cols: ws.Col}
}

// session is one client's side of a streaming request.
type session struct {
	conn   *control.Conn
	opt    Options
	window *window
	done   chan struct{} // closed when the process has ended or the user left
}

// window counts the bytes of input that may still be sent.
type window struct {
	mu     sync.Mutex // guards all below
	more   sync.Cond
	left   int
	closed bool
}

func newWindow(n int) *window {
	w := &window{left: n}
	w.more.L = &w.mu
	return w
}

// take waits until something may be sent and takes up to n of it; 0 when the
// session is over.
func (w *window) take(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.left == 0 && !w.closed {
		w.more.Wait()
	}
	if w.closed {
		return 0
	}
	n = min(n, w.left)
	w.left -= n
	return n
}

func (w *window) give(n int) {
	w.mu.Lock()
	w.left += n
	w.mu.Unlock()
	w.more.Signal()
}

func (w *window) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.more.Signal()
}

// Stream carries input, output, signals and window sizes until the process
// ends, and gives its exit code. The request is under way already.
func Stream(conn *control.Conn, opt Options) (int, error) {
	s := &session{conn: conn, opt: opt, window: newWindow(control.StdinWindow), done: make(chan struct{})}
	if opt.TTY && opt.In != nil && term.IsTerminal(int(opt.In.Fd())) {
		old, err := term.MakeRaw(int(opt.In.Fd()))
		if err != nil {
			return 0, fmt.Errorf("set the terminal to raw mode: %w", err)
		}
		defer term.Restore(int(opt.In.Fd()), old)
		s.followSize()
	}
	if s.opt.Signals == nil {
		_, s.opt.Signals = signals.Catch(context.Background())
		defer s.opt.Signals.Release()
	}
	left := make(chan syscall.Signal, 1)
	s.obeySignals(left)
	detached := make(chan struct{})
	if opt.In != nil {
		go s.sendInput(detached)
	}
	type result struct {
		code int
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		code, err := s.receive()
		ended <- result{code, err}
	}()
	defer s.window.close()
	defer close(s.done)
	select {
	case r := <-ended:
		return r.code, r.err
	case <-detached:
		return 0, ErrDetached
	case sig := <-left:
		return 128 + int(sig), nil
	}
}

// receive prints output until the process ends.
func (s *session) receive() (int, error) {
	for {
		kind, payload, err := s.conn.Recv()
		if err != nil {
			return 0, control.ErrGone
		}
		switch kind {
		case control.KindStdout:
			if s.opt.Out != nil {
				_, err = s.opt.Out.Write(payload)
			}
		case control.KindStderr:
			if s.opt.Err != nil {
				_, err = s.opt.Err.Write(payload)
			}
		case control.KindAck:
			var n int
			if json.Unmarshal(payload, &n) == nil {
				s.window.give(n)
			}
		case control.KindExit:
			var e control.Exit
			if err := json.Unmarshal(payload, &e); err != nil {
				return 0, fmt.Errorf("read the supervisor's answer: %w", err)
			}
			return e.Code, nil
		case control.KindError:
			e := new(control.Error)
			if err := json.Unmarshal(payload, e); err != nil {
				return 0, fmt.Errorf("read the supervisor's answer: %w", err)
			}
			return 0, e
		}
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrOutput, err)
		}
	}
}

// sendInput passes input on, within the window, until it ends or the user
// types the detach keys.
func (s *session) sendInput(detached chan struct{}) {
	keys := detachReader{r: s.opt.In, keys: s.opt.DetachKeys}
	buf := make([]byte, 32<<10)
	for {
		n, err := keys.Read(buf)
		for rest := buf[:n]; len(rest) > 0; {
			part := s.window.take(len(rest))
			if part == 0 || s.conn.Send(control.KindStdin, rest[:part]) != nil {
				return
			}
			rest = rest[part:]
		}
		if err == ErrDetached {
			close(detached)
			return
		}
		if err != nil {
			_ = s.conn.Send(control.KindStdinEOF, nil)
			return
		}
	}
}

// followSize tells the process each new size of the terminal.
func (s *session) followSize() {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGWINCH)
	go func() {
		defer signal.Stop(ch)
		for {
			select {
			case <-ch:
				if size := TerminalSize(s.opt.In); size != nil {
					_ = s.conn.SendJSON(control.KindResize, size)
				}
			case <-s.done:
				return
			}
		}
	}()
}

// obeySignals passes signals on, or else leaves the process when one asks this one to end: the terminal must not stay raw.
func (s *session) obeySignals(left chan<- syscall.Signal) {
	s.opt.Signals.HandOver(func(sig syscall.Signal) {
		switch {
		case s.opt.SigProxy:
			_ = s.conn.SendJSON(control.KindSignal, int(sig))
		case signals.Ends(sig):
			select {
			case left <- sig:
			default:
			}
		}
	})
}
