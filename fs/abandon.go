package fs

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A mount that nobody can reach any more goes by itself, unless a file of it is open somewhere: one that was handed to
// another program over a socket, say. A worker in read(2) can be woken by the kernel alone: it is asked for content that it
// has in its cache, and its answer is a request.

// abandonPoll is how long the kernel is given at first.
const abandonPoll = 10 * time.Millisecond

// AbandonWhenIdle ends the server once it has had nothing to do for some time. It returns when the server has ended. Whoever
// still has a file of the mount open gets errors from then on.
func (s *Server) AbandonWhenIdle(idle time.Duration) {
	select {
	case <-s.ended:
		return
	case <-s.ready:
	}
	for last := s.crew.served.Load(); ; {
		select {
		case <-s.ended:
			return
		case <-time.After(idle):
		}
		served := s.crew.served.Load()
		if served == last && !s.crew.busy() {
			break
		}
		last = served
	}
	s.crew.abandoned.Store(true)
	for poll := abandonPoll; ; poll = min(2*poll, time.Second) {
		s.provoke()
		select {
		case <-s.ended:
			return
		case <-time.After(poll):
		}
	}
}

// provoke has the kernel send a request: for that it needs a regular file that the kernel still has in memory, which may be
// any of those that it has not told to forget. Where it has none, the server goes on until the last file is closed.
func (s *Server) provoke() {
	for id := s.ids.regular(rootID); id != 0; id = s.ids.regular(id + 1) {
		known, err := s.tell(fuse.NOTIFY_RETRIEVE_CACHE, bytesOf(&fuse.NotifyRetrieveOut{Nodeid: id, Size: 1}), nil)
		if known || err != nil {
			return
		}
	}
}

// regular gives the first id from one on that stands for a regular file, 0: none.
func (t *table) regular(from uint64) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for id := from; id-1 < uint64(len(t.slots)); id++ {
		if n := t.slots[id-1].node; n != nil && n.Type() == unix.S_IFREG {
			return id
		}
	}
	return 0
}
