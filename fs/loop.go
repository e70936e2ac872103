package fs

import (
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	// maxRequest is the largest read or write in bytes, which is the most
	// that the kernel sends: 256 pages.
	maxRequest = 1 << 20
	// headroom is for what precedes the data of a write.
	headroom      = 4096
	inHeaderSize  = int(unsafe.Sizeof(fuse.InHeader{}))
	outHeaderSize = int(unsafe.Sizeof(fuse.OutHeader{}))
)

// worker reads requests, one at a time, and answers them.
type worker struct {
	s   *Server
	in  []byte // the buffer that requests are read into
	out []byte // the reply: a header and its payload

	req  []byte // the request, in in
	hdr  *fuse.InHeader
	fd   int // the descriptor that it came from, which takes the answer
	size int // of the payload in out

	waited bool          // the request was there before the worker looked
	idle   time.Duration // how long it waited
	near   nearness
}

func newWorker(s *Server) *worker {
	return &worker{
		s:   s,
		in:  alignedAfter(int(unsafe.Sizeof(fuse.WriteIn{})), s.maxWrite+headroom),
		out: alignedAfter(outHeaderSize, maxRequest+headroom),
	}
}

// alignedAfter gives a buffer of head and size bytes in which what follows the
// head begins on a page: where it does not, some processors copy pages at a
// tenth of the speed.
func alignedAfter(head, size int) []byte {
	const page = 4096
	b := make([]byte, 2*page+head+size)
	skip := -(int(uintptr(unsafe.Pointer(&b[0]))) + head) & (page - 1)
	return b[skip : skip+head+size]
}

// answer carries out the request and replies.
func (w *worker) answer() {
	s := w.s
	op := w.hdr.Opcode
	if op < opcodes {
		s.counts[op].Add(1)
	}
	w.size = 0
	status := w.dispatch()
	if s.opt.Debug != nil {
		w.trace(status)
	}
	if op == opForget || op == opBatchForget || op == opInterrupt {
		return
	}
	w.reply(status)
}

// reply sends the payload of size bytes, or an error alone. A reply to a
// request that was interrupted meanwhile is refused, which is no harm.
func (w *worker) reply(status unix.Errno) {
	out := (*fuse.OutHeader)(unsafe.Pointer(&w.out[0]))
	if status != 0 {
		w.size = 0
	}
	out.Length = uint32(outHeaderSize + w.size)
	out.Status = -int32(status)
	out.Unique = w.hdr.Unique
	for {
		_, err := unix.Write(w.fd, w.out[:out.Length])
		if err != unix.EINTR {
			return
		}
	}
}

// header gives the header of a request that is long enough to have one.
func header(req []byte) *fuse.InHeader { return (*fuse.InHeader)(unsafe.Pointer(&req[0])) }

// payload gives the reply's payload as a T, set to zero.
func payload[T any](w *worker) *T {
	var zero T
	p := (*T)(unsafe.Pointer(&w.out[outHeaderSize]))
	*p = zero
	w.size = int(unsafe.Sizeof(zero))
	return p
}

// body gives the request as a T, nil if it is too short to be one.
func body[T any](w *worker) *T {
	var zero T
	if len(w.req) < int(unsafe.Sizeof(zero)) {
		return nil
	}
	return (*T)(unsafe.Pointer(&w.req[0]))
}

// text gives the NUL-terminated strings that follow the first skip bytes.
func (w *worker) text(skip int) (first, second string) {
	if skip > len(w.req) {
		return "", ""
	}
	b := w.req[skip:]
	for i, c := range b {
		if c != 0 {
			continue
		}
		first = string(b[:i])
		rest := b[i+1:]
		for j, c := range rest {
			if c == 0 {
				return first, string(rest[:j])
			}
		}
		return first, ""
	}
	return string(b), ""
}
