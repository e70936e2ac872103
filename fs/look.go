package fs

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// devIocClone is FUSE_DEV_IOC_CLONE.
const devIocClone = 0x8004e500

// openLook opens a second descriptor of the connection, which does not block:
// a worker sees through it whether there is a request without waiting for one.
// It is -1 where the kernel has none to give.
func (s *Server) openLook() int {
	fd, err := unix.Open(devFuse, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1
	}
	of := uint32(s.dev)
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), devIocClone, uintptr(unsafe.Pointer(&of))); e != 0 {
		unix.Close(fd)
		return -1
	}
	return fd
}

// next waits for a request. A worker that is not alone takes what is there
// already; if that is nothing, it is one too many unless the others have gone
// meanwhile.
func (w *worker) next(alone bool) (got bool, err error) {
	if !alone && w.s.look >= 0 {
		if got, err := w.take(w.s.look); got || err != nil {
			w.waited = true
			return got, err
		}
		if w.s.crew.spare() {
			return false, nil
		}
	}
	start := time.Now()
	for !got && err == nil {
		got, err = w.take(w.s.dev)
	}
	w.idle = time.Since(start)
	w.waited = w.idle < atOnce
	return got, err
}

// take reads a request from a descriptor. It got none if the request was
// interrupted before it was read, or if there is none and the descriptor does
// not block.
func (w *worker) take(fd int) (got bool, err error) {
	n, err := unix.Read(fd, w.in)
	switch err {
	case nil:
		if n < inHeaderSize {
			return false, fmt.Errorf("read a FUSE request: %d bytes are no request", n)
		}
		w.fd, w.req = fd, w.in[:n]
		w.hdr = header(w.req)
		return true, nil
	case unix.ENOENT, unix.EINTR, unix.EAGAIN:
		return false, nil
	case unix.ENODEV, unix.ECONNABORTED: // the latter if a request was on its way
		return false, errUnmounted
	}
	return false, fmt.Errorf("read a FUSE request: %w", err)
}
