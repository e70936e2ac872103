package control

import (
	"errors"
	"fmt"
	"io"
)

// StreamWriter sends what is written as frames of one kind.
type StreamWriter struct {
	Conn *Conn
	Kind Kind
}

// Write sends p in frames.
func (w StreamWriter) Write(p []byte) (int, error) {
	sent := 0
	for len(p) > 0 {
		n := min(len(p), ChunkSize)
		if err := w.Conn.Send(w.Kind, p[:n]); err != nil {
			return sent, err
		}
		sent += n
		p = p[n:]
	}
	return sent, nil
}

// StreamReader reads Data frames up to End as one stream. An Error frame is
// the error of Read.
type StreamReader struct {
	Conn *Conn
	rest []byte
	err  error
}

// Read reads the next bytes of the stream.
func (r *StreamReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		kind, payload, err := r.Conn.Recv()
		switch {
		case err != nil:
			r.err = err
			if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
				r.err = ErrGone
			}
		case kind == KindData:
			r.rest = payload
		case kind == KindEnd:
			r.err = io.EOF
		case kind == KindError:
			r.err = decodeError(payload)
		default:
			r.err = fmt.Errorf("unexpected message of kind %d in a stream", kind)
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
