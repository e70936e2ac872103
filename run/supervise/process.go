package supervise

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"mica/run/control"
	"mica/run/sandbox"
)

// processIO is the supervisor's side of a process's terminal or pipes.
type processIO struct {
	stdin   *inputPipe // nil: no input
	process *sandbox.Process
	tty     *os.File
	out     []*source
	wg      sync.WaitGroup
	end     atomic.Pointer[outputEnd] // set when the process has ended
}

// outputEnd says how long the output of a process that has ended is waited for.
type outputEnd struct {
	deadline time.Time
	grace    time.Duration
}

// source is one stream of output.
type source struct {
	kind control.Kind
	file *os.File
	left atomic.Int64 // what may not be read yet of what the process had written when it ended
}

// input says whether a process has input, and what the end of a client's is to it.
type input int

const (
	noInput   input = iota
	onceInput       // it ends with the first client's
	keptInput       // it does not: others may come
)

// startProcess makes the streams of spec and starts it by way of start.
func (sess *session) startProcess(spec *sandbox.Spec, in input, start func(*sandbox.Spec) (*sandbox.Process, error)) (*sandbox.Process, *processIO, error) {
	io := new(processIO)
	var theirs []*os.File
	var stdin *os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	fail := func(err error) (*sandbox.Process, *processIO, error) {
		for _, s := range io.out {
			s.file.Close()
		}
		if stdin != nil {
			stdin.Close()
		}
		return nil, nil, err
	}
	if !spec.TTY {
		if in != noInput {
			r, w, err := os.Pipe()
			if err != nil {
				return fail(fmt.Errorf("make a pipe: %w", err))
			}
			stdin, spec.Stdin, theirs = w, r, append(theirs, r)
		}
		for _, s := range []struct {
			kind control.Kind
			file **os.File
		}{{control.KindStdout, &spec.Stdout}, {control.KindStderr, &spec.Stderr}} {
			r, w, err := os.Pipe()
			if err != nil {
				return fail(fmt.Errorf("make a pipe: %w", err))
			}
			io.out = append(io.out, &source{kind: s.kind, file: r})
			*s.file, theirs = w, append(theirs, w)
		}
	}
	p, err := start(spec)
	if err != nil {
		return fail(err)
	}
	io.process = p
	if spec.TTY {
		io.tty = p.TTY()
		io.out = []*source{{kind: control.KindStdout, file: io.tty}}
		if in != noInput {
			io.stdin = newInputPipe(keepOpen{io.tty}, false)
		}
	} else if stdin != nil {
		io.stdin = newInputPipe(stdin, in == onceInput)
	}
	return p, io, nil
}

// keepOpen is a terminal seen as an input: it closes with its output.
type keepOpen struct{ f *os.File }

func (k keepOpen) Write(p []byte) (int, error) { return k.f.Write(p) }
func (k keepOpen) Close() error                { return nil }

// outputChunk is how much output is read at once.
const outputChunk = 32 << 10

// waiting is how many bytes can be read without waiting.
func (s *source) waiting() int64 {
	n := 0
	if c, err := s.file.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return int64(n)
}

// pump hands all output to sink, from goroutines of its own.
func (io *processIO) pump(sink func(control.Kind, []byte)) {
	for _, s := range io.out {
		io.wg.Go(func() {
			buf := make([]byte, outputChunk)
			for io.await(s) {
				n, err := s.file.Read(buf)
				s.left.Add(int64(-n))
				if n > 0 {
					sink(s.kind, buf[:n])
				}
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // a terminal ends with EIO
					return
				}
			}
		})
	}
}

// await sets how long the next read of a stream may take. It is false where nothing is waited for any more: the process has
// ended some time ago, and all that it had written until then was read: as much as there was, or all that there is. Others may
// write on for ever, much at once or little again and again.
func (io *processIO) await(s *source) bool {
	end := io.end.Load()
	if end == nil {
		return true
	}
	next := end.deadline
	if now := time.Now(); now.After(next) {
		if s.left.Load() <= 0 || s.waiting() == 0 {
			return false
		}
		next = now.Add(end.grace)
	}
	_ = s.file.SetReadDeadline(next)
	return true
}

// discard reads output that nobody wants.
func (io *processIO) discard() {
	io.pump(func(control.Kind, []byte) {})
	go func() {
		io.finish(0)
	}()
}

// finish waits for the rest of the output and closes the streams. With a
// grace, a stream that another process still holds open is given up after that time; without, it is waited for to its end.
func (io *processIO) finish(grace time.Duration) {
	if grace > 0 {
		for _, s := range io.out {
			s.left.Store(s.waiting() + outputChunk) // what was just read may not be taken off yet
		}
		end := &outputEnd{time.Now().Add(grace), grace}
		io.end.Store(end)
		for _, s := range io.out {
			_ = s.file.SetReadDeadline(end.deadline)
		}
	}
	io.wg.Wait()
	if io.stdin != nil {
		io.stdin.close()
	}
	for _, s := range io.out {
		s.file.Close()
	}
}

func (io *processIO) resize(size control.Size) {
	if io.tty != nil {
		_ = io.process.Resize(sandbox.Size(size))
	}
}
