package fstest

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Cred is who an actor is. The zero value is whoever runs the test.
type Cred struct {
	UID, GID int
	Groups   []uint32
}

// assume gives the calling thread the credentials c, for good.
func assume(c Cred) {
	runtime.LockOSThread()
	if c.UID == 0 {
		return
	}
	var p unsafe.Pointer
	if len(c.Groups) > 0 {
		p = unsafe.Pointer(&c.Groups[0])
	}
	must := func(e unix.Errno) {
		if e != 0 {
			panic("take on the credentials of an actor: " + e.Error())
		}
	}
	_, _, e := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(c.Groups)), uintptr(p), 0)
	must(e)
	_, _, e = unix.RawSyscall(unix.SYS_SETRESGID, uintptr(c.GID), uintptr(c.GID), uintptr(c.GID))
	must(e)
	_, _, e = unix.RawSyscall(unix.SYS_SETRESUID, uintptr(c.UID), uintptr(c.UID), uintptr(c.UID))
	must(e)
}
