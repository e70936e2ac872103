package attach

import (
	"fmt"
	"io"
	"strings"
)

// ParseDetachKeys reads a list such as "ctrl-p,ctrl-q" or "a,ctrl-]". The empty
// list turns detaching off.
func ParseDetachKeys(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	var keys []byte
	for _, word := range strings.Split(s, ",") {
		if len(word) == 1 {
			keys = append(keys, word[0])
			continue
		}
		letter, ok := strings.CutPrefix(word, "ctrl-")
		if !ok || len(letter) != 1 {
			return nil, fmt.Errorf("detach keys %q: want single characters and ctrl-X, separated by commas", s)
		}
		c := letter[0]
		switch {
		case c >= 'a' && c <= 'z':
			keys = append(keys, c-'a'+1)
		case c >= '@' && c <= '_':
			keys = append(keys, c-'@')
		default:
			return nil, fmt.Errorf("detach keys %q: there is no ctrl-%c", s, c)
		}
	}
	return keys, nil
}

// detachReader passes input on up to the detach keys, where it returns
// ErrDetached. What may be their beginning is held back until the next key shows.
type detachReader struct {
	r    io.Reader
	keys []byte
	held int // how many of keys have been typed
	rest []byte
	err  error
}

// Read reads input without the detach keys.
func (d *detachReader) Read(p []byte) (int, error) {
	for len(d.rest) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		buf := make([]byte, len(p))
		n, err := d.r.Read(buf)
		if len(d.keys) == 0 {
			copy(p, buf[:n])
			return n, err
		}
		d.filter(buf[:n])
		if err != nil && d.err == nil {
			d.rest = append(d.rest, d.keys[:d.held]...)
			d.held, d.err = 0, err
		}
	}
	n := copy(p, d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func (d *detachReader) filter(in []byte) {
	for _, c := range in {
		if c != d.keys[d.held] && d.held > 0 {
			d.rest = append(d.rest, d.keys[:d.held]...)
			d.held = 0
		}
		if c != d.keys[d.held] {
			d.rest = append(d.rest, c)
			continue
		}
		if d.held++; d.held == len(d.keys) {
			d.err, d.held = ErrDetached, 0
			return
		}
	}
}
