package ids

import "golang.org/x/sys/unix"

const (
	auditArch  = unix.AUDIT_ARCH_X86_64
	sysFstatat = unix.SYS_NEWFSTATAT
	sysStat    = unix.SYS_STAT
	sysLstat   = unix.SYS_LSTAT
	sysAccess  = unix.SYS_ACCESS
)

var syscallInstruction = []byte{0x0f, 0x05}

// registers are those of a stopped thread.
type registers struct{ r unix.PtraceRegs }

func (r *registers) read(tid int) error  { return unix.PtraceGetRegs(tid, &r.r) }
func (r *registers) write(tid int) error { return unix.PtraceSetRegs(tid, &r.r) }
func (r *registers) pc() uint64          { return r.r.Rip }
func (r *registers) sp() uint64          { return r.r.Rsp }
func (r *registers) result() int64       { return int64(r.r.Rax) }
func (r *registers) setResult(n int64)   { r.r.Rax = uint64(n) }
func (r *registers) number() int64       { return int64(r.r.Orig_rax) }
func (r *registers) args() [6]uint64 {
	return [6]uint64{r.r.Rdi, r.r.Rsi, r.r.Rdx, r.r.R10, r.r.R8, r.r.R9}
}

// setCall prepares a system call at the program counter.
func (r *registers) setCall(nr uint64, args []uint64) {
	r.r.Rax, r.r.Orig_rax = nr, ^uint64(0)
	r.r.Rdi, r.r.Rsi, r.r.Rdx, r.r.R10, r.r.R8 = 0, 0, 0, 0, 0
	for i, to := range []*uint64{&r.r.Rdi, &r.r.Rsi, &r.r.Rdx} {
		if i < len(args) {
			*to = args[i]
		}
	}
}
