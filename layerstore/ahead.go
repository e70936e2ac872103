package layerstore

import "io"

// aheadReader reads from its source in a goroutine, some buffers ahead, so
// that decompressing and unpacking share the work of two cores.
type aheadReader struct {
	chunks  chan aheadChunk
	free    chan []byte
	quit    chan struct{}
	ended   chan struct{}
	current []byte
	err     error
	stopped bool
	spare   []byte
}

type aheadChunk struct {
	data []byte
	err  error
}

func newAheadReader(r io.Reader) *aheadReader {
	const buffers, size = 4, 512 << 10
	a := &aheadReader{
		chunks: make(chan aheadChunk, buffers),
		free:   make(chan []byte, buffers),
		quit:   make(chan struct{}),
		ended:  make(chan struct{}),
	}
	for range buffers {
		a.free <- make([]byte, size)
	}
	go a.run(r)
	return a
}

func (a *aheadReader) run(r io.Reader) {
	defer close(a.ended)
	for {
		var buf []byte
		select {
		case buf = <-a.free:
		case <-a.quit:
			return
		}
		n, err := fill(r, buf)
		select {
		case a.chunks <- aheadChunk{buf[:n], err}:
		case <-a.quit:
			return
		}
		if err != nil {
			return
		}
	}
}

func (a *aheadReader) Read(p []byte) (int, error) {
	for len(a.current) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.spare != nil {
			a.free <- a.spare
		}
		c := <-a.chunks
		a.spare = c.data[:cap(c.data)]
		a.current, a.err = c.data, c.err
	}
	n := copy(p, a.current)
	a.current = a.current[n:]
	return n, nil
}

// stop ends the goroutine; the source may be used again afterwards.
func (a *aheadReader) stop() {
	if !a.stopped {
		a.stopped = true
		close(a.quit)
		<-a.ended
	}
}

// fill is [io.ReadFull] that leaves the source's own error alone: a truncated
// source and a short last buffer must not look alike.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var k int
		k, err = r.Read(buf[n:])
		n += k
	}
	return n, err
}
