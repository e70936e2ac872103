package desktop

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The families of an entry in an X authority file that matter here; see
// Xauth(7) and X11/Xauth.h.
const (
	xFamilyLocal = 256   // the address is the name of this machine
	xFamilyWild  = 65535 // any address
)

// xAuth is one entry of an X authority file.
type xAuth struct {
	family                      uint16
	address, number, name, data []byte
}

// xAuthority gives the entries for one display in a form that holds under any
// host name, since the container has another. Without such a file it is empty.
func xAuthority(file, number, hostname string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the X authority: %w", err)
	}
	entries, err := parseXAuthority(data)
	if err != nil {
		return nil, fmt.Errorf("read the X authority %s: %w", file, err)
	}
	// Entries of other names are of times when the machine was called so: they
	// count where there is none of today's.
	today := false
	for _, e := range entries {
		today = today || e.family == xFamilyLocal && string(e.address) == hostname && e.is(number)
	}
	var out []byte
	for _, e := range entries {
		if !e.is(number) || today && e.family == xFamilyLocal && string(e.address) != hostname {
			continue
		}
		if e.family == xFamilyLocal {
			e.family, e.address = xFamilyWild, nil
		}
		out = e.append(out)
	}
	return out, nil
}

// is tells whether the entry is for a display; one without a number is for all.
func (e *xAuth) is(number string) bool { return len(e.number) == 0 || string(e.number) == number }

func (e *xAuth) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, e.family)
	for _, s := range [][]byte{e.address, e.number, e.name, e.data} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return b
}

// parseXAuthority reads a whole X authority file.
func parseXAuthority(data []byte) ([]xAuth, error) {
	r := bytes.NewReader(data)
	short := func() uint16 {
		var b [2]byte
		if n, _ := r.Read(b[:]); n != len(b) {
			r.Reset(nil)
			return 0
		}
		return binary.BigEndian.Uint16(b[:])
	}
	var entries []xAuth
	for r.Len() > 0 {
		e := xAuth{family: short()}
		for _, s := range []*[]byte{&e.address, &e.number, &e.name, &e.data} {
			if r.Len() < 2 {
				return nil, errors.New("it ends in the middle of an entry")
			}
			n := int(short())
			if n > r.Len() {
				return nil, errors.New("it ends in the middle of an entry")
			}
			*s = make([]byte, n)
			_, _ = r.Read(*s) // all of it is there
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// xAuthorityFile is where the calling user's X authority is.
func xAuthorityFile() string {
	if file := os.Getenv("XAUTHORITY"); file != "" {
		return file
	}
	return filepath.Join(os.Getenv("HOME"), ".Xauthority")
}
