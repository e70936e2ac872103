package ids

import (
	"bytes"
	"runtime"
	"strconv"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// View tells the server of the root, outside of the sandbox, who a process is. Nothing in it is trusted: a wrong table gives
// files of the sandbox wrong owners.
type View struct {
	shared []byte
	proc   atomic.Int64 // descriptor of the sandbox's /proc plus one; 0 until it is known
}

// NewView makes the view of the table that shares the memory, which is a mapping that goes with it.
func NewView(shared []byte) *View {
	v := &View{shared: shared}
	runtime.AddCleanup(v, func(mem []byte) { _ = unix.Munmap(mem) }, shared)
	return v
}

// SetProc gives the view the sandbox's /proc, which it owns from now on. Only the first one counts.
func (v *View) SetProc(fd int) {
	if !v.proc.CompareAndSwap(0, int64(fd)+1) {
		unix.Close(fd)
	}
}

// Close gives the descriptor back.
func (v *View) Close() {
	if fd := v.proc.Swap(0); fd != 0 {
		unix.Close(int(fd) - 1)
	}
}

// Owner returns the owner of the files that a thread (its id in the sandbox) makes; ok is false when that is who the kernel
// takes it for. It may be called at any time from any goroutine but after Close.
func (v *View) Owner(tid uint32) (uid, gid uint32, ok bool) {
	if !v.anybody() {
		return 0, 0, false
	}
	proc := v.proc.Load() - 1
	if proc < 0 {
		return 0, 0, false
	}
	n, ok := readNumber(int(proc), tid)
	if !ok {
		return 0, 0, false
	}
	return v.owner(n)
}

// ownerOf is Owner for a thread by its id here.
func (v *View) ownerOf(tid int) (uid, gid uint32, ok bool) {
	var l unix.Rlimit
	if !v.anybody() || unix.Prlimit(tid, Resource, nil, &l) != nil {
		return 0, 0, false
	}
	n, ok := numberIn(l.Cur)
	if !ok {
		return 0, 0, false
	}
	return v.owner(n)
}

// anybody says whether there are credentials that give new files another owner.
func (v *View) anybody() bool { return word(v.shared, otherOffset).Load() != 0 }

// owner returns the owner of the files of processes with the credentials of a number.
func (v *View) owner(n uint32) (uid, gid uint32, ok bool) {
	if n >= min(word(v.shared, countOffset).Load(), maxEntries) {
		return 0, 0, false
	}
	at := headerSize + int(n)*entrySize
	return word(v.shared, at).Load(), word(v.shared, at+4).Load(), true
}

// readNumber reads the number of a thread's credentials from its limits; see proc_pid_limits(5).
func readNumber(proc int, tid uint32) (uint32, bool) {
	fd, err := unix.Openat(proc, strconv.FormatUint(uint64(tid), 10)+"/limits", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	defer unix.Close(fd)
	var buf [4096]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return 0, false
	}
	_, rest, ok := bytes.Cut(buf[:n], []byte("Max file locks"))
	if !ok {
		return 0, false
	}
	field, _, _ := bytes.Cut(bytes.TrimLeft(rest, " "), []byte(" "))
	value, err := strconv.ParseUint(string(field), 10, 64)
	if err != nil {
		return 0, false
	}
	return numberIn(value)
}
