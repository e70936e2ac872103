package supervise

import (
	"os"
	"testing"
	"time"

	"mica/run/control"
)

// TestAwaitAfterEnd: once the grace is over, output is waited for no more where there is none, however little came since the end.
func TestAwaitAfterEnd(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	s := &source{kind: control.KindStdout, file: r}
	s.left.Store(outputChunk)
	io := &processIO{out: []*source{s}}
	if !io.await(s) {
		t.Error("output of a process that runs is not waited for")
	}
	io.end.Store(&outputEnd{time.Now().Add(-time.Second), outputGrace})
	if io.await(s) {
		t.Error("with nothing to read, more is waited for")
	}
	if _, err := w.WriteString("x"); err != nil {
		t.Fatal(err)
	}
	if !io.await(s) {
		t.Error("what there is is not read")
	}
	s.left.Store(0)
	if io.await(s) {
		t.Error("more is read than there was")
	}
}
