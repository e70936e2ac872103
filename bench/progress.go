package bench

import (
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/progress"
)

// progressBar shows how far a run is. A bar without a writer shows nothing.
type progressBar struct {
	writer  progress.Writer
	tracker *progress.Tracker
	running bool // a step is under way
	done    chan struct{}
}

func newProgress(w io.Writer) *progressBar {
	b := &progressBar{}
	if w == nil {
		return b
	}
	b.writer = progress.NewWriter()
	b.writer.SetOutputWriter(w)
	b.writer.SetMessageLength(36)
	b.writer.SetTrackerLength(30)
	b.writer.SetUpdateFrequency(250 * time.Millisecond)
	b.writer.SetStyle(progress.StyleBlocks)
	style := b.writer.Style()
	style.Visibility.ETA, style.Visibility.Speed, style.Visibility.Value = true, false, true
	return b
}

// begin shows the bar and says how many steps there are.
func (b *progressBar) begin(steps int) {
	if b.writer == nil {
		return
	}
	b.tracker = &progress.Tracker{Total: int64(steps), RemoveOnCompletion: true}
	b.writer.AppendTracker(b.tracker)
	b.done = make(chan struct{})
	go func() {
		defer close(b.done)
		b.writer.Render()
	}()
}

// step ends the step under way, if any, and begins the next.
func (b *progressBar) step(message string) {
	if b.tracker == nil {
		return
	}
	b.tracker.UpdateMessage(message)
	if b.running {
		b.tracker.Increment(1)
	}
	b.running = true
}

// stop ends the bar and waits until it is off the screen.
func (b *progressBar) stop() {
	if b.tracker == nil {
		return
	}
	b.tracker.MarkAsDone()
	b.writer.Stop()
	<-b.done
}
