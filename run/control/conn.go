// Package control is the protocol between mica's commands and the supervisor
// of a container, over a Unix stream socket.
//
// A connection carries one request. Both sides send frames: one byte that
// says what it is, four bytes of length (big endian), the payload.
//
//	client                              supervisor
//	Request {Op, ...}      ---------->
//	                       <----------  OK {result} | Error {Code, Message}
//	Stdin Resize Signal    ---------->                 (streaming operations)
//	                       <----------  Stdout Stderr Data Item
//	                       <----------  Exit {Code} | End | Error
//
// Standard input has a window of [StdinWindow] bytes that Ack frames open again,
// so that a process which does not read it cannot hold up the signals behind it.
//
// The peer of either side is the same user; limits guard against confusion, not malice.
package control

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// Kind says what a frame is.
type Kind byte

// The kinds of frames.
const (
	KindRequest  Kind = iota + 1 // JSON [Request]
	KindOK                       // JSON, by operation; the request is under way or done
	KindError                    // JSON [Error]; nothing follows
	KindStdin                    // bytes
	KindStdinEOF                 // empty
	KindStdout                   // bytes
	KindStderr                   // bytes
	KindResize                   // JSON [Size]
	KindSignal                   // JSON number
	KindExit                     // JSON [Exit]; nothing follows
	KindData                     // bytes of a stream
	KindItem                     // JSON, one of a list
	KindEnd                      // empty; the stream or the list is complete
	KindAck                      // JSON number: so many bytes of Stdin are taken
)

// maxFrame bounds a payload: an environment or a command line may have some MiB. Writers split streams well below it.
const maxFrame = 64 << 20

// StdinWindow is how many bytes of standard input may be on their way.
const StdinWindow = 256 << 10

// ChunkSize is how much of a stream goes into one frame.
const ChunkSize = 64 << 10

// Conn is one connection. Frames may be sent by several goroutines; one
// receives.
type Conn struct {
	rwc io.ReadWriteCloser
	r   *bufio.Reader
	wmu sync.Mutex
	buf []byte // of the last received payload
}

// NewConn makes a connection of a connected socket.
func NewConn(rwc io.ReadWriteCloser) *Conn {
	return &Conn{rwc: rwc, r: bufio.NewReaderSize(rwc, 16<<10)}
}

// Close closes the socket.
func (c *Conn) Close() error { return c.rwc.Close() }

// Send sends one frame.
func (c *Conn) Send(kind Kind, payload []byte) error {
	if len(payload) > maxFrame {
		return fmt.Errorf("send to supervisor: message of %d bytes is too long", len(payload))
	}
	frame := make([]byte, 5+len(payload))
	frame[0] = byte(kind)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(payload)))
	copy(frame[5:], payload)
	c.wmu.Lock()
	defer c.wmu.Unlock()
	_, err := c.rwc.Write(frame)
	return err
}

// SendJSON sends one frame with v in it.
func (c *Conn) SendJSON(kind Kind, v any) error {
	payload, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("send to supervisor: %w", err)
	}
	return c.Send(kind, payload)
}

// SendError sends what went wrong.
func (c *Conn) SendError(err error) error {
	e := &Error{Message: err.Error()}
	var coded *Error
	if errors.As(err, &coded) {
		e.Code = coded.Code
	}
	return c.SendJSON(KindError, e)
}

// Recv receives one frame. The payload is good until the next call.
func (c *Conn) Recv() (Kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(c.r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(binary.BigEndian.Uint32(head[1:]))
	if n > maxFrame {
		return 0, nil, fmt.Errorf("receive from socket: message of %d bytes is too long", n)
	}
	if cap(c.buf) < n {
		c.buf = make([]byte, n)
	}
	payload := c.buf[:n]
	if _, err := io.ReadFull(c.r, payload); err != nil {
		return 0, nil, err
	}
	return Kind(head[0]), payload, nil
}

// ErrGone says that the supervisor went away in the middle of a request.
var ErrGone = errors.New("the container's supervisor went away: it has ended, or was killed; see \"mica ps -a\"")

// Gone is ErrGone for an error of a connection, with what that says beyond.
func Gone(err error) error {
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return ErrGone
	}
	return fmt.Errorf("%w: %w", ErrGone, err)
}

// Expect receives a frame of one kind and reads its JSON into v, which may be
// nil. An Error frame becomes the error.
func (c *Conn) Expect(kind Kind, v any) error {
	got, payload, err := c.Recv()
	if err != nil {
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return ErrGone
		}
		return Gone(err)
	}
	if got == KindError {
		return decodeError(payload)
	}
	if got != kind {
		return fmt.Errorf("unexpected answer of kind %d from the supervisor", got)
	}
	if v == nil || len(payload) == 0 {
		return nil
	}
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("read the supervisor's answer: %w", err)
	}
	return nil
}

// Ask sends a request and waits for its OK, with what that says; result may be nil.
func (c *Conn) Ask(req Request, result any) error {
	payload, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("ask the supervisor: %w", err)
	}
	if err := c.Send(KindRequest, payload); err != nil {
		return Gone(err)
	}
	return c.Expect(KindOK, result)
}

// Decode reads the JSON of a request or an item.
func Decode(payload []byte, v any) error {
	if err := json.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	return nil
}

func decodeError(payload []byte) error {
	e := new(Error)
	if err := json.Unmarshal(payload, e); err != nil {
		return fmt.Errorf("read the supervisor's answer: %w", err)
	}
	return e
}

// Items receives a list: fn gets the JSON of each item until the End.
func (c *Conn) Items(fn func(payload []byte) error) error {
	for {
		kind, payload, err := c.Recv()
		switch {
		case err != nil:
			return ErrGone
		case kind == KindEnd:
			return nil
		case kind == KindError:
			return decodeError(payload)
		case kind != KindItem:
			return fmt.Errorf("unexpected answer of kind %d from the supervisor", kind)
		}
		if err := fn(payload); err != nil {
			return err
		}
	}
}
