package fstest

import (
	"fmt"
	"hash/fnv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// exec does one operation on a side. It runs on the actor's thread.
func (s *side) exec(o Op) (r Result) {
	r.Ran = true
	defer func() {
		if p := recover(); p != nil {
			if _, ok := p.(interface{ Addr() uintptr }); !ok {
				panic(p)
			}
			r = Result{Ran: true, Val: "SIGBUS"}
		}
	}()
	if f, ok := pathOps[o.Code]; ok {
		r.Val, r.Errno = split2(f(s, o))
		return r
	}
	if f, ok := mapOps[o.Code]; ok {
		m, ok := s.maps[slotKey{o.Actor, o.Slot2}]
		if !ok {
			return Result{}
		}
		r.Val, r.Errno = split2(f(s, o, m))
		return r
	}
	f, ok := fileOps[o.Code]
	if !ok {
		panic("unknown operation " + o.Code)
	}
	of, ok := s.slots[slotKey{o.Actor, o.Slot}]
	if !ok {
		return Result{}
	}
	r.Val, r.Errno = split2(f(s, o, of))
	return r
}

func split2(val string, err error) (string, unix.Errno) {
	if err == nil {
		return val, 0
	}
	if e, ok := err.(unix.Errno); ok {
		return val, e
	}
	return val + " " + err.Error(), unix.EPROTO
}

// put stores a new open file in the operation's slot.
func (s *side) put(o Op, fd int, err error) error {
	if err != nil {
		return err
	}
	k := slotKey{o.Actor, o.Slot}
	if old, ok := s.slots[k]; ok {
		unix.Close(old.fd)
	}
	s.slots[k] = &openFile{fd: fd}
	return nil
}

func digest(b []byte) string {
	h := fnv.New64a()
	h.Write(b)
	return fmt.Sprintf("%d bytes %016x", len(b), h.Sum64())
}

// aligned makes a buffer that O_DIRECT takes.
func aligned(n int64) []byte {
	b := make([]byte, n+4095)
	skip := -int64(uintptr(unsafe.Pointer(&b[0]))) & 4095
	return b[skip : skip+n : skip+n]
}

func bytesOf(o Op) []byte {
	b := aligned(o.Len)
	fill(b, o.Seed, 0)
	return b
}

// describe writes a status so that two sides can be compared: a timestamp
// since the start of the run is "now".
func (s *side) describe(st *unix.Stat_t) string {
	mtime := "now"
	if st.Mtim.Sec < s.freshAfter {
		mtime = fmt.Sprintf("%d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
	}
	if st.Mode&unix.S_IFMT == unix.S_IFIFO {
		mtime = "any" // writes to a FIFO never reach the filesystem of a mount by FUSE
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return fmt.Sprintf("mode=%o %d:%d mtime=%s", st.Mode, st.Uid, st.Gid, mtime)
	}
	rdev := uint64(0)
	if t := st.Mode & unix.S_IFMT; t == unix.S_IFCHR || t == unix.S_IFBLK {
		rdev = st.Rdev
	}
	return fmt.Sprintf("mode=%o %d:%d nlink=%d size=%d rdev=%d mtime=%s", st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, rdev, mtime)
}
