package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/term"

	"mica/internal/format"
)

// bars shows how far things have been read, on a line each, where standard error is a terminal. Without done it shows nothing.
type bars struct {
	ended chan struct{} // closed to end it
	done  chan struct{} // closed when it has ended

	mu   sync.Mutex // guards list
	list []*bar     // those under way

	shown int // lines on the screen; the goroutine's
}

const (
	barsEvery = 100 * time.Millisecond
	barLength = 30
)

// newBars begins to show bars. The caller must stop them.
func newBars(show bool) *bars {
	b := new(bars)
	if !show || !term.IsTerminal(2) {
		return b
	}
	b.ended, b.done = make(chan struct{}), make(chan struct{})
	go b.run()
	return b
}

func (b *bars) run() {
	defer close(b.done)
	tick := time.NewTicker(barsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.mu.Lock()
			list := slices.Clone(b.list)
			b.mu.Unlock()
			b.draw(list)
		case <-b.ended:
			b.draw(nil)
			return
		}
	}
}

// draw puts lines in place of those that are on the screen.
func (b *bars) draw(list []*bar) {
	if b.shown == 0 && len(list) == 0 {
		return
	}
	width, height, err := term.GetSize(2)
	if err != nil || width < 2 || height < 2 {
		width, height = 80, 24
	}
	list = list[:min(len(list), height-1)] // the cursor gets back to no line that has left the screen
	var out strings.Builder
	if b.shown > 0 {
		fmt.Fprintf(&out, "\r\x1b[%dA", b.shown)
	}
	for _, one := range list {
		fmt.Fprintf(&out, "%s\x1b[K\n", one.line(width-1))
	}
	out.WriteString("\x1b[J")
	b.shown = len(list)
	_, _ = os.Stderr.WriteString(out.String())
}

// stop takes the bars off the screen.
func (b *bars) stop() {
	if b.done != nil {
		close(b.ended)
		<-b.done
	}
}

// reader shows how far r has been read; size is 0 where nobody knows it.
func (b *bars) reader(r io.Reader, size int64, what string) io.Reader {
	if b.done == nil {
		return r
	}
	one := &bar{b: b, r: r, what: what, size: size, since: time.Now()}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.list = append(b.list, one)
	return one
}

// track shows the way of a blob.
func (b *bars) track(d ocispec.Descriptor, r io.Reader) io.Reader {
	return b.reader(r, d.Size, format.ShortID(d.Digest.String()))
}

// bar is one thing that is read.
type bar struct {
	b     *bars
	r     io.Reader
	what  string
	size  int64
	since time.Time
	read  atomic.Int64
}

func (o *bar) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	o.read.Add(int64(n))
	if err != nil {
		o.b.mu.Lock()
		defer o.b.mu.Unlock()
		o.b.list = slices.DeleteFunc(o.b.list, func(other *bar) bool { return other == o })
	}
	return n, err
}

// line says in no more than width columns how far it is.
func (o *bar) line(width int) string {
	read := o.read.Load()
	text := format.Size(read)
	if o.size > 0 {
		text += " of " + format.Size(o.size)
	}
	if seconds := time.Since(o.since).Seconds(); seconds >= 1 {
		text += ", " + format.Size(int64(float64(read)/seconds)) + "/s"
	}
	if room := min(barLength, width-len(o.what)-len(text)-6); o.size > 0 && room > 4 {
		full := int(min(read, o.size) * int64(room) / o.size)
		text = "[" + strings.Repeat("#", full) + strings.Repeat(".", room-full) + "]  " + text
	}
	text = o.what + "  " + text
	return text[:min(len(text), width)]
}
