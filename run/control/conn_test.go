package control

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pair gives two connected ends.
func pair(t *testing.T) (*Conn, *Conn) {
	t.Helper()
	a, b := net.Pipe()
	ca, cb := NewConn(a), NewConn(b)
	t.Cleanup(func() { ca.Close(); cb.Close() })
	return ca, cb
}

func TestStreamArrivesWhole(t *testing.T) {
	a, b := pair(t)
	want := bytes.Repeat([]byte("0123456789"), 30_000)
	sent := make(chan error, 1)
	go func() {
		_, err := StreamWriter{a, KindData}.Write(want)
		sent <- errors.Join(err, a.Send(KindEnd, nil))
	}()
	got, err := io.ReadAll(&StreamReader{Conn: b})
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes of %d: %v", len(got), len(want), err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

func TestErrorKeepsItsCode(t *testing.T) {
	a, b := pair(t)
	go a.SendError(&Error{Code: 127, Message: "exec: no such command"})
	err := b.Expect(KindOK, nil)
	var coded *Error
	if !errors.As(err, &coded) || coded.Code != 127 || coded.Message != "exec: no such command" {
		t.Fatalf("got %#v", err)
	}
}

func TestStreamReportsHowItBroke(t *testing.T) {
	a, b := pair(t)
	go func() {
		a.Send(KindData, []byte("part"))
		a.Close()
	}()
	got, err := io.ReadAll(&StreamReader{Conn: b})
	if string(got) != "part" || !errors.Is(err, ErrGone) {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestRecvRefusesHugeFrames(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	go a.Write([]byte{byte(KindData), 0xff, 0xff, 0xff, 0xff})
	if _, _, err := NewConn(b).Recv(); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Fatalf("got %v", err)
	}
}

// A container's directory may lie deeper than a socket address is long.
func TestDialInADeepDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 120))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time over the socket that the first has left
		l, err := Listen(dir)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err == nil {
				NewConn(c).Send(KindOK, nil)
				c.Close()
			}
		}()
		c, err := Dial(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Expect(KindOK, nil); err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
	}
}
