package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unicode"
	"unicode/utf8"
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
func complain(err error) {
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	fmt.Fprintln(os.Stderr, "mica:", strings.Join(lines, "\n"))
}

// printable spells out what a terminal would obey or could not show.
func printable(s string) string {
	var b strings.Builder
	for i, n := 0, 0; i < len(s); i += n {
		var r rune
		r, n = utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}
