package userns

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// TestFeedTellsError: that a source fails is known as soon as its end can be seen.
func TestFeedTellsError(t *testing.T) {
	boom := errors.New("boom")
	for _, want := range []error{nil, boom} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		in := io.Reader(strings.NewReader("whole"))
		if want != nil {
			in = io.MultiReader(in, iotest.ErrReader(want))
		}
		failed := feed(w, in)
		if got, err := io.ReadAll(r); string(got) != "whole" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		r.Close()
		var got error
		select {
		case got = <-failed:
		default:
		}
		if got != want {
			t.Errorf("error %v, want %v", got, want)
		}
	}
}
