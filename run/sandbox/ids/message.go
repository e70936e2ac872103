package ids

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loan is memory of a traced thread that has other content for the time of a call.
type loan struct {
	at  uint64
	was []byte
}

// lend makes sendmsg(2) send the credentials of the one user where a program sends its own, which the kernel would refuse: there is
// no such user.
func (t *tracer) lend(tid int, r *registers) (lent []loan) {
	if r.number() != unix.SYS_SENDMSG {
		return nil
	}
	const (
		controlAt, controlLen = unsafe.Offsetof(unix.Msghdr{}.Control), unsafe.Offsetof(unix.Msghdr{}.Controllen)
		header, maxControl    = unix.SizeofCmsghdr, 4096
		ids                   = unsafe.Offsetof(unix.Ucred{}.Uid) // the user and the group
	)
	var msg [unsafe.Sizeof(unix.Msghdr{})]byte
	if n, e := readMemory(tid, r.args()[1], msg[:]); e != 0 || n != len(msg) {
		return nil
	}
	at, room := binary.NativeEndian.Uint64(msg[controlAt:]), binary.NativeEndian.Uint64(msg[controlLen:])
	if room < header || room > maxControl {
		return nil
	}
	control := make([]byte, room)
	if n, e := readMemory(tid, at, control); e != 0 || n != len(control) {
		return nil
	}
	shown := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, t.foreign.uid), t.foreign.gid)
	for len(control) >= header {
		size := binary.NativeEndian.Uint64(control)
		if size < header || size > uint64(len(control)) {
			break
		}
		level, kind := binary.NativeEndian.Uint32(control[8:]), binary.NativeEndian.Uint32(control[12:])
		if level == unix.SOL_SOCKET && kind == unix.SCM_CREDENTIALS && size == header+unix.SizeofUcred {
			was := append([]byte(nil), control[header+ids:size]...)
			if writeMemory(tid, at+header+uint64(ids), shown) == 0 {
				lent = append(lent, loan{at + header + uint64(ids), was})
			}
		}
		next := min((size+7)&^7, uint64(len(control)))
		at, control = at+next, control[next:]
	}
	return lent
}
