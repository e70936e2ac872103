package cow

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// prefetcher has the disk read what a client that walks the tree comes to
// next, several objects at a time, where the client would wait for one after
// the other (see walk.go). It works only while objects come from the disk; from
// memory they are there sooner than another thread could fetch them.
//
// All that it leaves behind is in the kernel's caches, and its errors mean
// nothing: whoever needs the object meets them again.
type prefetcher struct {
	cold atomic.Int32 // how sure it is that objects come from the disk
	walk

	mu      sync.Mutex
	todo    []prefetch // the next at the end
	workers int
	running sync.WaitGroup
	lapse   *time.Timer // set while Go has processors for the workers
	closed  bool
}

// prefetch is an object of a lower layer: name in dir. Those of the upper may
// move meanwhile.
type prefetch struct {
	dir  *dirRef
	name string
	typ  uint8 // DT_DIR or DT_REG
}

const (
	prefetchWorkers = 8
	prefetchMax     = 2048    // objects that wait
	prefetchSize    = 1 << 18 // of a file
	prefetchLapse   = time.Second

	// What takes longer than coldBase, and coldEach for each name or page, has
	// waited for the disk, or for a processor. The latter is rarer.
	coldBase = 100 * time.Microsecond
	coldEach = time.Microsecond
	coldStep = 16 // what cold grows by then; else it shrinks by 1
	coldFrom = 24
	coldMost = 64
)

// note learns from how long so many objects took, with so many names or pages
// in them.
func (p *prefetcher) note(took time.Duration, objects, parts int) {
	cold := p.cold.Load()
	switch {
	case took > time.Duration(objects)*coldBase+time.Duration(parts)*coldEach:
		p.cold.CompareAndSwap(cold, min(cold+coldStep, coldMost))
	case cold > 0:
		p.cold.CompareAndSwap(cold, cold-1)
	}
}

// isCold tells whether objects come from the disk.
func (p *prefetcher) isCold() bool { return p.cold.Load() >= coldFrom }

// push puts objects before those that wait already, and drops the oldest of
// those if they are too many.
func (p *prefetcher) push(f *FS, next []prefetch) {
	if len(next) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	next = next[:min(len(next), prefetchMax)]
	if drop := len(p.todo) + len(next) - prefetchMax; drop > 0 {
		p.todo = p.todo[drop:]
	}
	for i := len(next) - 1; i >= 0; i-- {
		p.todo = append(p.todo, next[i])
	}
	p.widen()
	for p.workers < min(prefetchWorkers, len(p.todo)) {
		p.workers++
		p.running.Add(1)
		go p.run(f)
	}
}

// run fetches until nothing waits.
func (p *prefetcher) run(f *FS) {
	defer p.running.Done()
	for {
		p.mu.Lock()
		last := len(p.todo) - 1
		if last < 0 {
			p.workers--
			p.mu.Unlock()
			return
		}
		next := p.todo[last]
		p.todo = p.todo[:last]
		p.mu.Unlock()
		start := time.Now()
		names := next.fetch(f)
		p.note(time.Since(start), 1, names)
	}
}

// fetch has the kernel read an object, and gives how many names it has.
func (t prefetch) fetch(f *FS) (names int) {
	parent, err := f.use(t.dir)
	if err != nil {
		return 0
	}
	defer f.done(t.dir, parent)
	if t.typ == unix.DT_DIR {
		fd, err := t.dir.layer.openDir(parent, t.name)
		if err != nil {
			return 0
		}
		defer sys.Close(fd)
		if t.dir.layer.catalog.get() != nil {
			return 0 // it is there to be looked at, not to be listed
		}
		_ = sys.List(fd, func([]byte, uint8, uint64) error { names++; return nil })
		return names
	}
	fd, err := sys.Open(parent, t.name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer sys.Close(fd)
	_ = unix.Fadvise(fd, 0, prefetchSize, unix.FADV_WILLNEED)
	return 0
}

// widen lets all workers wait at the same time. Go hands the processor of a
// goroutine that waits in a system call to another one only after a while, so
// on a small machine they would wait in turns. Needs p.mu.
func (p *prefetcher) widen() {
	if p.lapse != nil {
		return
	}
	moreProcessors(prefetchWorkers)
	p.lapse = time.AfterFunc(prefetchLapse, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		switch {
		case p.lapse == nil:
		case p.workers > 0:
			p.lapse.Reset(prefetchLapse)
		default:
			p.narrow()
		}
	})
}

// narrow undoes widen. Needs p.mu.
func (p *prefetcher) narrow() {
	if p.lapse != nil {
		p.lapse.Stop()
		p.lapse = nil
		moreProcessors(-prefetchWorkers)
	}
}

var processors sync.Mutex

// moreProcessors changes the number of goroutines that run at the same time.
func moreProcessors(n int) {
	processors.Lock()
	defer processors.Unlock()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
}

// close ends all fetching.
func (p *prefetcher) close() {
	p.mu.Lock()
	p.closed = true
	p.todo = nil
	p.narrow()
	p.mu.Unlock()
	p.running.Wait()
}
