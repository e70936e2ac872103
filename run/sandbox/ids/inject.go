package ids

import (
	"encoding/binary"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// inject gives a stopped thread the filter, by making it execute the calls for it, and restores it. It returns the signals that came
// meanwhile and have to be sent again.
//
// The filter needs no_new_privs. It is not the program that has asked for that, so it counts for nothing where set-id bits are
// emulated: the request has an argument that the kernel takes for PR_SET_NO_NEW_PRIVS, and the filter of identities does not.
func (t *tracer) inject(tid int, filter []byte) (missed []syscall.Signal) {
	var saved registers
	if saved.read(tid) != nil {
		return nil
	}
	var code [8]byte
	pc := saved.pc()
	if _, err := unix.PtracePeekText(tid, uintptr(pc), code[:]); err != nil {
		return nil
	}
	patched := code
	copy(patched[:], syscallInstruction)
	if _, err := unix.PtracePokeText(tid, uintptr(pc), patched[:]); err != nil {
		return nil
	}
	defer func() {
		_, _ = unix.PtracePokeText(tid, uintptr(pc), code[:])
		_ = saved.write(tid)
	}()
	// struct sock_fprog and the program, below what the program may use of its stack.
	at := (saved.sp() - 1024 - uint64(len(filter))) &^ 15
	fprog := binary.NativeEndian.AppendUint64(nil, uint64(len(filter)/8))
	fprog = binary.NativeEndian.AppendUint64(fprog, at+16)
	if writeMemory(tid, at, append(fprog, filter...)) != 0 {
		return nil
	}
	if t.step(tid, &saved, &missed, unix.SYS_PRCTL, 1<<32|unix.PR_SET_NO_NEW_PRIVS, 1) {
		t.step(tid, &saved, &missed, unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, at)
	}
	return missed
}

// step makes the thread execute one call at its program counter and says whether that succeeded.
func (t *tracer) step(tid int, saved *registers, missed *[]syscall.Signal, nr uint64, args ...uint64) bool {
	r := *saved
	r.setCall(nr, args)
	if r.write(tid) != nil {
		return false
	}
	for {
		if unix.PtraceSingleStep(tid) != nil {
			return false
		}
		var ws syscall.WaitStatus
		for {
			_, err := syscall.Wait4(tid, &ws, unix.WALL|unix.WNOTHREAD, nil)
			if err == nil {
				break
			}
			if err != unix.EINTR {
				return false
			}
		}
		switch {
		case !ws.Stopped():
			return false
		case ws.StopSignal() == unix.SIGTRAP && int(ws)>>16 == 0:
			return r.read(tid) == nil && r.result() == 0
		case int(ws)>>16 == 0:
			*missed = append(*missed, ws.StopSignal())
		}
	}
}

// tgid is the process of a thread.
func tgid(tid int) int {
	n, err := strconv.Atoi(statusField(unix.AT_FDCWD, "/proc/"+strconv.Itoa(tid)+"/status", "Tgid:"))
	if err != nil {
		return tid
	}
	return n
}
