package fstest

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// dirStream is what has been read of an open directory: names, and after each
// the cookie that the next one follows.
type dirStream struct {
	names   []string
	cookies []int64
	ended   bool
	// atStart is what the plain side listed when the stream began; touched are
	// the names that any operation has worked on since.
	atStart map[string]uint64
	touched map[string]bool
}

func newDirStream() *dirStream {
	return &dirStream{touched: map[string]bool{}}
}

// readdir reads about n more entries through small buffers.
func (f *openFile) readdir(n int) error {
	if f.dir == nil {
		f.dir = newDirStream()
		f.dir.ended = true // it did not begin at a known position
	}
	buf := make([]byte, 320)
	for got := 0; got < n && !f.dir.ended; {
		k, err := unix.Getdents(f.fd, buf)
		if err != nil {
			return err
		}
		if k == 0 {
			f.dir.ended = true
		}
		for b := buf[:k]; len(b) > 0; {
			size := binary.NativeEndian.Uint16(b[16:])
			name, _, _ := bytes.Cut(b[19:size], []byte{0})
			f.dir.names = append(f.dir.names, string(name))
			f.dir.cookies = append(f.dir.cookies, int64(binary.NativeEndian.Uint64(b[8:])))
			b = b[size:]
			got++
		}
	}
	return nil
}

// seekdir goes back to after the i-th entry read (0: the beginning).
func (f *openFile) seekdir(i int) error {
	if f.dir == nil {
		return unix.EINVAL
	}
	i %= len(f.dir.names) + 1
	var cookie int64
	if i > 0 {
		cookie = f.dir.cookies[i-1]
	}
	if _, err := unix.Seek(f.fd, cookie, 0); err != nil {
		return err
	}
	f.dir.names, f.dir.cookies, f.dir.ended = f.dir.names[:i], f.dir.cookies[:i], false
	return nil
}

// check tells what is wrong with a finished listing: a name that was there
// throughout must occur once, "." and ".." too, and no name twice unless
// something happened to it.
func (d *dirStream) check(atEnd map[string]uint64) string {
	seen := map[string]int{}
	for _, n := range d.names {
		seen[n]++
	}
	for name, ino := range d.atStart {
		if atEnd[name] == ino && !d.touched[name] && seen[name] != 1 {
			return "the name " + name + " was listed " + times(seen[name])
		}
	}
	for name, n := range seen {
		_, there := atEnd[name]
		_, was := d.atStart[name]
		dot := name == "." || name == ".."
		switch {
		case n > 1 && !d.touched[name]:
			return "the name " + name + " was listed " + times(n)
		case !there && !was && !d.touched[name] && !dot:
			return "the name " + name + " was listed and never existed"
		}
	}
	for _, dot := range []string{".", ".."} {
		if seen[dot] != 1 {
			return "the name " + dot + " was listed " + times(seen[dot])
		}
	}
	return ""
}

func times(n int) string {
	switch n {
	case 0:
		return "never"
	case 1:
		return "once"
	}
	return "more than once"
}
