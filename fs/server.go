package fs

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/internal/turns"
)

// Server answers the kernel's requests for one mount.
type Server struct {
	u   *cow.FS
	opt Options
	ids table
	dev int
	// look is a second descriptor of the connection, which does not block; -1: none.
	look int

	devMu  sync.RWMutex // held shared by those who write to dev uncalled
	closed bool         // dev is; guarded by devMu

	maxWrite int
	minor    uint32
	flags    uint64     // agreed with the kernel
	direct   bool       // new files are written directly
	files    *openFiles // nil: content is not passed through

	crew    crew
	listers listers
	procs   atomic.Pointer[turns.Processes]

	companion turns.Companion
	greeting  atomic.Pointer[string] // the name of the file that Greet opens
	ready     chan struct{}
	ended     chan struct{} // closed when Serve returns
	failed    atomic.Pointer[error]
	counts    [opcodes]atomic.Uint64
}

// New prepares a server of u.
func New(u *cow.FS, opt Options) *Server {
	s := &Server{u: u, opt: opt, maxWrite: maxRequest, ready: make(chan struct{}), ended: make(chan struct{})}
	if opt.MaxWrite > 0 {
		s.maxWrite = min(max(opt.MaxWrite, 4096), maxRequest)
	}
	s.ids.init(u.Root())
	return s
}

// Ready is closed once the kernel and the server have agreed on the protocol:
// from then on the mount answers.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Serve answers requests from dev, a /dev/fuse descriptor that is mounted,
// until it is unmounted. It takes dev over.
func (s *Server) Serve(dev *os.File) error {
	fd, err := unix.FcntlInt(dev.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("duplicate the FUSE descriptor: %w", err)
	}
	_ = dev.Close()
	// Workers wait in read(2) itself: the runtime's poller would add a round
	// through epoll to every request.
	if err := unix.SetNonblock(fd, false); err != nil {
		return fmt.Errorf("prepare the FUSE descriptor: %w", err)
	}
	s.dev, s.look = fd, -1
	defer func() {
		defer close(s.ended)
		s.devMu.Lock()
		defer s.devMu.Unlock()
		s.closed = true
		unix.Close(fd)
		if s.look >= 0 {
			unix.Close(s.look)
		}
		if p := s.procs.Load(); p != nil {
			p.Close()
		}
	}()
	w := newWorker(s)
	if err := w.handshake(); err != nil {
		return err
	}
	s.look = s.openLook()
	s.u.Widen()
	close(s.ready)
	s.crew.serve(s)
	s.companion.Stop()
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail records the error that ends the server.
func (s *Server) fail(err error) {
	s.failed.CompareAndSwap(nil, &err)
}

// errUnmounted ends a worker.
var errUnmounted = errors.New("unmounted")
