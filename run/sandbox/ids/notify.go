package ids

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif.
type notification struct {
	id    uint64
	pid   uint32 // of the thread, in init's pid namespace
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

func ioctl(fd int, req uintptr, arg unsafe.Pointer) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), req, uintptr(arg))
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

// receive waits for the next call to answer. It is false when no process is left that could make one.
func receive(listener int, n *notification) bool {
	for {
		if waitsForEver() && !pending(listener) {
			return false
		}
		*n = notification{}
		err := ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n))
		if err == nil {
			return true
		}
		if !errors.Is(err, unix.ENOENT) {
			return false
		}
		// The caller was killed meanwhile, or all are gone.
		if !pending(listener) {
			return false
		}
	}
}

// pending waits until there is a call to receive. It is false when there will be none any more.
func pending(listener int) bool {
	p := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(p, -1)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && p[0].Revents&unix.POLLIN != 0
		}
	}
}

// waitsForEver tells whether this kernel, as all before Linux 6.11, lets a receiver wait when nobody is left that could call.
var waitsForEver = sync.OnceValue(func() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return true
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		return true
	}
	return major < 6 || major == 6 && minor < 11
})

// answer ends a call. That the caller is gone is no error.
func answer(listener int, r *response) {
	_ = ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(r))
}

// valid says whether the caller still waits: until then its thread id is its own.
func valid(listener int, id uint64) bool {
	return ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == nil
}

// wakeOnSameCPU lets the kernel run init and the caller in turns on one processor, which halves the time of a call.
func wakeOnSameCPU(listener int) {
	flags := uint64(unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
	// Since Linux 6.6; the flags are the argument itself.
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(listener), unix.SECCOMP_IOCTL_NOTIF_SET_FLAGS, uintptr(flags))
}

// readMemory reads at most len(buf) bytes from a process.
func readMemory(tid int, at uint64, buf []byte) (int, unix.Errno) {
	if len(buf) == 0 {
		return 0, 0
	}
	local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
	n, err := unix.ProcessVMReadv(tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(buf)}}, 0)
	if err != nil {
		return 0, unix.EFAULT
	}
	return n, 0
}

// writeMemory writes all of buf to a process.
func writeMemory(tid int, at uint64, buf []byte) unix.Errno {
	if len(buf) == 0 {
		return 0
	}
	local := []unix.Iovec{{Base: &buf[0], Len: uint64(len(buf))}}
	n, err := unix.ProcessVMWritev(tid, local, []unix.RemoteIovec{{Base: uintptr(at), Len: len(buf)}}, 0)
	if err != nil || n != len(buf) {
		return unix.EFAULT
	}
	return 0
}

// readString reads a path from a process.
func readString(tid int, at uint64) (string, unix.Errno) {
	var buf [unix.PathMax]byte
	for n := 0; n < len(buf); {
		// To the end of the page: the next one may not be there.
		room := min(4096-int((at+uint64(n))%4096), len(buf)-n)
		got, e := readMemory(tid, at+uint64(n), buf[n:n+room])
		if e != 0 || got == 0 {
			return "", unix.EFAULT
		}
		for i, b := range buf[n : n+got] {
			if b == 0 {
				return string(buf[:n+i]), 0
			}
		}
		n += got
	}
	return "", unix.ENAMETOOLONG
}
