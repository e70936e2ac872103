package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/term"

	"mica/internal/format"
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

// complain tells of an error. A name in it may be an image's, which is not to command the terminal.
func complain(err error) { fmt.Fprintln(os.Stderr, "mica:", printableText(err.Error())) }

// printableError is an error that may quote what a registry said, whose line feeds are not to begin lines of mica's own: it is one line.
type printableError struct{ err error }

func (e printableError) Error() string { return format.Printable(e.err.Error()) }
func (e printableError) Unwrap() error { return e.err }

// display is where to print what is for people to read: standard output, whose terminal does not get to obey what an image or a
// container has put into it.
func display() io.Writer {
	if term.IsTerminal(1) {
		return visible{}
	}
	return stdout
}

// visible is standard output for text that comes in whole characters.
type visible struct{}

func (visible) Write(b []byte) (int, error) {
	if _, err := io.WriteString(stdout, printableText(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// printableText spells out what a terminal would obey, but for line feeds and tabs.
func printableText(text string) string {
	var out strings.Builder
	for rest := text; rest != ""; {
		i := strings.IndexAny(rest, "\n\t")
		if i < 0 {
			i = len(rest)
		}
		out.WriteString(format.Printable(rest[:i]))
		end := min(i+1, len(rest))
		out.WriteString(rest[i:end])
		rest = rest[end:]
	}
	return out.String()
}
