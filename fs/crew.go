package fs

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// crew is the workers of a server. One worker that reads, carries out and
// answers, and then finds its caches warm, is faster for one client than two
// that take turns, and the kernel wakes waiting readers in turns. So one waits
// for requests, and a second reader is added only
//
//   - for the time of a request that may take long (see slow), unless it is
//     that of the only client,
//   - when requests of others than the last client are found waiting several
//     times in a row,
//   - when a request takes longer than a tick, whatever it waits for: it might
//     wait for another request of the same mount.
//
// A worker that has answered while another one waits goes on if there is a
// request already, and else is one too many.
type crew struct {
	all  sync.WaitGroup
	mu   sync.Mutex // guards size and over
	size int        // workers
	over bool       // the mount is gone: nobody reads any more
	rest sync.Pool  // workers that are not needed, for their buffers

	readers atomic.Int32  // of them waiting for a request
	served  atomic.Uint64 // requests taken
	dozing  atomic.Bool   // the watch waits to be woken
	wake    chan struct{}
	ended   chan struct{}

	abandoned atomic.Bool // no request is answered any more
}

const (
	maxWorkers = 64
	// atOnce is how soon a read must return for its request to have waited.
	atOnce = 2 * time.Microsecond
	// backlog is how many requests in a row must have waited to add a worker.
	backlog = 16
	// tidyDelay is how long there must be nothing to do, after at least
	// tidyAfter requests, before memory is given back to the machine.
	tidyDelay = time.Second
	tidyAfter = 5000
	// tick is how often the watch looks while there is something to do.
	tick = 5 * time.Millisecond
)

// serve works until the mount is gone.
func (c *crew) serve(s *Server) {
	c.wake, c.ended = make(chan struct{}, 1), make(chan struct{})
	c.add(s)
	var watch sync.WaitGroup
	watch.Add(1)
	go func() {
		defer watch.Done()
		c.watch(s)
	}()
	c.all.Wait()
	close(c.ended)
	watch.Wait()
}

// add adds a worker.
func (c *crew) add(s *Server) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.size == maxWorkers {
		return
	}
	c.size++
	c.readers.Add(1)
	c.all.Add(1)
	go func() {
		defer c.all.Done()
		w, ok := c.rest.Get().(*worker)
		if !ok {
			w = newWorker(s)
		}
		w.run()
		c.rest.Put(w)
	}()
}

// spare counts a waiting worker out if another one waits.
func (c *crew) spare() bool {
	for {
		n := c.readers.Load()
		if n <= 1 {
			return false
		}
		if c.readers.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// leave counts a worker out. After the mount is gone no other may start: the
// descriptor is about to be closed, and its number given to something else.
func (c *crew) leave(over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.size--
	c.over = c.over || over
}

// run answers requests until the mount is gone, or there are workers enough.
func (w *worker) run() {
	s := w.s
	c := &s.crew
	runtime.LockOSThread()
	defer w.unlock()
	backed := 0
	for alone := true; ; {
		got, err := w.next(alone)
		if !got && err == nil {
			c.leave(false)
			return
		}
		reading := c.readers.Add(-1)
		if err != nil {
			c.leave(true)
			if err != errUnmounted {
				s.fail(err)
			}
			return
		}
		if c.abandoned.Load() {
			c.leave(true)
			return
		}
		c.served.Add(1)
		crowded := w.waited && w.hdr.Pid != w.near.pid
		w.approach()
		if c.dozing.Load() && c.dozing.CompareAndSwap(true, false) {
			c.wake <- struct{}{}
		}
		if crowded {
			backed++
		} else {
			backed = 0
		}
		if reading == 0 && (backed >= backlog || slow[w.hdr.Opcode%opcodes] && w.near.run < nearRun) {
			backed = 0
			c.add(s)
		}
		w.answer()
		alone = c.readers.Add(1) == 1
	}
}

// doze waits for the next request, and tells whether there is one. After much
// work it uses the rest to give memory back that the work has left behind;
// tidied is how many requests had been served the last time.
func (c *crew) doze(tidied *uint64) bool {
	select {
	case <-c.ended:
		return false
	case <-c.wake:
		return true
	case <-time.After(tidyDelay):
	}
	if served := c.served.Load(); served-*tidied > tidyAfter {
		*tidied = served
		debug.FreeOSMemory()
	}
	select {
	case <-c.ended:
		return false
	case <-c.wake:
		return true
	}
}

// busy tells whether a worker does anything but wait for a request.
func (c *crew) busy() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.readers.Load()) < c.size
}

// ensure makes sure that somebody reads while the caller waits for the kernel,
// which may wait for another request first.
func (c *crew) ensure(s *Server) {
	if c.readers.Load() == 0 {
		c.add(s)
	}
}

// slow are the requests that wait for the disk, during which another reader
// waits from the start.
var slow = [opcodes]bool{
	opFsync: true, opFsyncdir: true, opSyncfs: true, opFallocate: true, opCopyFileRange: true,
}

// watch adds a reader when there has been none for a tick. It sleeps while
// there are no requests.
func (c *crew) watch(s *Server) {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	last, tidied := uint64(0), uint64(0)
	for {
		select {
		case <-c.ended:
			return
		case <-timer.C:
		}
		served := c.served.Load()
		if served == last {
			if c.readers.Load() == 0 {
				c.add(s)
			} else if c.dozing.Store(true); c.served.Load() == last {
				if !c.doze(&tidied) {
					return
				}
			} else if !c.dozing.CompareAndSwap(true, false) {
				<-c.wake // a worker was faster
			}
		}
		last = served
		timer.Reset(tick)
	}
}
