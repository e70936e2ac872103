package run

import (
	"archive/tar"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestPartTellsError: the error of a receiver is told once, whenever it comes.
func TestPartTellsError(t *testing.T) {
	boom := errors.New("boom")
	p := beginPart(func(io.Reader) error { return boom })
	if err := p.end(nil); !errors.Is(err, boom) {
		t.Errorf("without entries: %v", err)
	}
	p = beginPart(func(io.Reader) error { return boom })
	err := p.entry(&tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755}, strings.NewReader(""))
	if !errors.Is(err, boom) {
		t.Errorf("an entry: %v", err)
	}
	if err := p.end(err); err != nil {
		t.Errorf("told twice: %v", err)
	}
	p = beginPart(func(r io.Reader) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	if err := p.end(boom); err != nil {
		t.Errorf("told back: %v", err)
	}
	p = beginPart(func(io.Reader) error { return nil })
	if err := p.end(nil); err != nil {
		t.Errorf("a receiver that reads nothing: %v", err)
	}
}
