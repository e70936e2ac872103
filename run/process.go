package run

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"mica/run/control"
	"mica/run/sandbox"
)

// processIO is the supervisor's side of a process's terminal or pipes.
type processIO struct {
	stdin   *inputPipe // nil: no input
	process *sandbox.Process
	tty     *os.File
	out     []source
	wg      sync.WaitGroup
	grace   atomic.Int64 // nanoseconds without output after which a stream counts as ended; 0: never
}

// source is one stream of output.
type source struct {
	kind control.Kind
	file *os.File
}

// startProcess makes the streams of spec and starts it by way of start.
func (sess *session) startProcess(spec *sandbox.Spec, input bool, start func(*sandbox.Spec) (*sandbox.Process, error)) (*sandbox.Process, *processIO, error) {
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
		if input {
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
			io.out = append(io.out, source{s.kind, r})
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
		io.out = []source{{control.KindStdout, io.tty}}
		if input {
			io.stdin = newInputPipe(keepOpen{io.tty}, false)
		}
	} else if stdin != nil {
		io.stdin = newInputPipe(stdin, true)
	}
	return p, io, nil
}

// keepOpen is a terminal seen as an input: it closes with its output.
type keepOpen struct{ f *os.File }

func (k keepOpen) Write(p []byte) (int, error) { return k.f.Write(p) }
func (k keepOpen) Close() error                { return nil }

// pump hands all output to sink, from goroutines of its own.
func (io *processIO) pump(sink func(control.Kind, []byte)) {
	for _, s := range io.out {
		io.wg.Go(func() {
			buf := make([]byte, 32<<10)
			for {
				if grace := io.grace.Load(); grace != 0 {
					_ = s.file.SetReadDeadline(time.Now().Add(time.Duration(grace)))
				}
				n, err := s.file.Read(buf)
				if n > 0 {
					sink(s.kind, buf[:n])
				}
				if errors.Is(err, os.ErrDeadlineExceeded) && n > 0 {
					continue
				}
				if err != nil { // a terminal ends with EIO
					return
				}
			}
		})
	}
}

// discard reads output that nobody wants.
func (io *processIO) discard() {
	io.pump(func(control.Kind, []byte) {})
	go func() {
		io.finish(0)
	}()
}

// finish waits for the rest of the output and closes the streams. With a
// grace, a stream that another process still holds open is given up when nothing has come for so
// long; without, it is waited for to its end.
func (io *processIO) finish(grace time.Duration) {
	if grace > 0 {
		io.grace.Store(int64(grace))
		for _, s := range io.out {
			_ = s.file.SetReadDeadline(time.Now().Add(grace))
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
