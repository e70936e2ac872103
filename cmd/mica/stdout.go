package main

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

// stdout is where all commands print what they have to say. That it cannot be written is found at the end, in execute, so
// that no command needs to look after each of its lines.
var stdout = new(printer)

// printer writes to standard output and remembers the first error.
type printer struct {
	mu  sync.Mutex
	err error
}

func (p *printer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	n, err := os.Stdout.Write(b)
	if err != nil {
		var errno syscall.Errno
		if errors.As(err, &errno) {
			err = errno
		}
		p.err = fmt.Errorf("write to standard output: %w", err)
	}
	return n, p.err
}

// failed is the first error of writing.
func (p *printer) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
