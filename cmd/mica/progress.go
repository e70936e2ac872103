package main

import (
	"io"
	"os"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/term"

	"mica/internal/format"
)

// bars shows how far things have been read, on a line each, where standard error is a terminal. Without a writer it shows nothing.
type bars struct {
	w    progress.Writer
	done chan struct{}
}

// newBars begins to show bars. The caller must stop them.
func newBars(show bool) *bars {
	b := new(bars)
	if !show || !term.IsTerminal(2) {
		return b
	}
	b.w = progress.NewWriter()
	b.w.SetOutputWriter(os.Stderr)
	b.w.SetTrackerPosition(progress.PositionRight)
	b.w.SetTrackerLength(30)
	b.w.SetUpdateFrequency(100 * time.Millisecond)
	b.w.SetStyle(progress.StyleBlocks)
	style := b.w.Style()
	style.Visibility.ETA, style.Visibility.Speed, style.Visibility.Time = false, true, false
	b.done = make(chan struct{})
	go func() {
		defer close(b.done)
		b.w.Render()
	}()
	return b
}

// stop takes the bars off the screen.
func (b *bars) stop() {
	if b.w != nil {
		b.w.Stop()
		<-b.done
	}
}

// reader shows how far r has been read; size is 0 where nobody knows it.
func (b *bars) reader(r io.Reader, size int64, what string) io.Reader {
	if b.w == nil {
		return r
	}
	t := &progress.Tracker{Message: what, Total: size, Units: progress.UnitsBytes, RemoveOnCompletion: true}
	b.w.AppendTracker(t)
	return &barReader{r, t}
}

// track shows the way of a blob.
func (b *bars) track(d ocispec.Descriptor, r io.Reader) io.Reader {
	return b.reader(r, d.Size, format.ShortID(d.Digest.String()))
}

type barReader struct {
	r io.Reader
	t *progress.Tracker
}

func (b *barReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	b.t.Increment(int64(n))
	if err != nil {
		b.t.MarkAsDone()
	}
	return n, err
}
