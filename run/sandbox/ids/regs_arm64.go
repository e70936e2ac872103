package ids

import "golang.org/x/sys/unix"

const (
	auditArch  = unix.AUDIT_ARCH_AARCH64
	sysFstatat = unix.SYS_FSTATAT
	sysStat    = -1 // there is none
	sysLstat   = -2
	sysAccess  = -3
)

var syscallInstruction = []byte{0x01, 0x00, 0x00, 0xd4} // svc #0

// registers are those of a stopped thread.
type registers struct{ r unix.PtraceRegs }

const generalSet = 1 // NT_PRSTATUS

func (r *registers) read(tid int) error {
	return unix.PtraceGetRegSetArm64(tid, generalSet, (*unix.PtraceRegsArm64)(&r.r))
}

func (r *registers) write(tid int) error {
	return unix.PtraceSetRegSetArm64(tid, generalSet, (*unix.PtraceRegsArm64)(&r.r))
}
func (r *registers) pc() uint64        { return r.r.Pc }
func (r *registers) sp() uint64        { return r.r.Sp }
func (r *registers) result() int64     { return int64(r.r.Regs[0]) }
func (r *registers) setResult(n int64) { r.r.Regs[0] = uint64(n) }
func (r *registers) number() int64     { return int64(r.r.Regs[8]) }
func (r *registers) args() [6]uint64 {
	return [6]uint64(r.r.Regs[:6])
}

// setCall prepares a system call at the program counter.
func (r *registers) setCall(nr uint64, args []uint64) {
	r.r.Regs[8] = nr
	for i := range 6 {
		r.r.Regs[i] = 0
		if i < len(args) {
			r.r.Regs[i] = args[i]
		}
	}
}
