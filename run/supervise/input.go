package supervise

import (
	"encoding/json"
	"io"
	"sync"

	"mica/run/control"
)

// inputPipe feeds standard input to a process. Whoever sends never waits for
// the process: what may be on its way is bounded by the window of each client.
type inputPipe struct {
	w       io.WriteCloser
	closeAt bool // an end of input closes w: pipes, not terminals

	mu    sync.Mutex // guards all below
	queue []chunk
	ended bool
	eof   bool          // the end of input has come
	next  *inputPipe    // that of a later process; nil: none yet
	wake  chan struct{} // has room for one
}

type chunk struct {
	data []byte
	from *control.Conn // to be told when it is taken; nil: nobody
	end  bool
}

func newInputPipe(w io.WriteCloser, closeAt bool) *inputPipe {
	p := &inputPipe{w: w, closeAt: closeAt, wake: make(chan struct{}, 1)}
	go p.pump()
	return p
}

// put queues data. It copies.
func (p *inputPipe) put(data []byte, from *control.Conn) {
	p.push(chunk{data: append([]byte(nil), data...), from: from})
}

// end says that no more input comes.
func (p *inputPipe) end() { p.push(chunk{end: true}) }

// Close ends the pump. What is still queued, and what comes later, may go to another process; see takeOver.
func (p *inputPipe) close() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.signal()
	p.w.Close()
}

// takeOver queues what an earlier process did not take, and the end of input for good.
func (p *inputPipe) takeOver(earlier *inputPipe) {
	earlier.mu.Lock()
	defer earlier.mu.Unlock()
	if earlier.eof {
		p.push(chunk{end: true})
	}
	p.push(earlier.queue...)
	earlier.queue, earlier.next = nil, p
}

func (p *inputPipe) push(c ...chunk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next != nil {
		p.next.push(c...)
		return
	}
	p.queue = append(p.queue, c...)
	p.signal()
}

func (p *inputPipe) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *inputPipe) pump() {
	broken := false
	for range p.wake {
		for {
			p.mu.Lock()
			if p.ended {
				p.mu.Unlock()
				return
			}
			if len(p.queue) == 0 {
				p.mu.Unlock()
				break
			}
			c := p.queue[0]
			p.queue = p.queue[1:]
			p.eof = p.eof || c.end
			p.mu.Unlock()
			if c.end {
				if p.closeAt {
					p.close()
					return
				}
				continue
			}
			// A process that has closed its input does not stop the client: the rest is thrown away.
			if !broken {
				_, err := p.w.Write(c.data)
				broken = err != nil
			}
			if c.from != nil {
				_ = c.from.SendJSON(control.KindAck, len(c.data))
			}
		}
	}
}

// readStreams handles what a streaming client sends until it goes away, which ends its input as well.
// resize and signal may be nil.
func readStreams(conn *control.Conn, stdin func() *inputPipe, resize func(control.Size), signal func(int)) {
	for {
		kind, payload, err := conn.Recv()
		if err != nil {
			if p := stdin(); p != nil {
				p.end()
			}
			return
		}
		switch kind {
		case control.KindStdin:
			if p := stdin(); p != nil {
				p.put(payload, conn)
			}
		case control.KindStdinEOF:
			if p := stdin(); p != nil {
				p.end()
			}
		case control.KindResize:
			var size control.Size
			if json.Unmarshal(payload, &size) == nil && resize != nil {
				resize(size)
			}
		case control.KindSignal:
			var sig int
			if json.Unmarshal(payload, &sig) == nil && signal != nil {
				signal(sig)
			}
		}
	}
}
