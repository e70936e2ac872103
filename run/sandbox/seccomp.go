package sandbox

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

//go:generate go run gen_syscalls.go

// SeccompMode selects the system call filter.
type SeccompMode int

const (
	SeccompDefault    SeccompMode = iota // equal in effect to Docker's default profile
	SeccompUnconfined                    // none
	SeccompFile                          // Profile, a profile in Docker's JSON format
)

// Seccomp is the system call filter of the processes in the sandbox.
type Seccomp struct {
	Mode    SeccompMode
	Profile []byte
}

// arch is an architecture that a process can make system calls of.
type arch struct {
	audit uint32
	names []string // as profiles spell it
	calls string   // see syscalls.go
}

// profile is a filter before it is compiled.
type profile struct {
	fallback uint32 // action for calls without a rule
	rules    []rule
	foreign  bool // calls of the other architectures of the machine are filtered too, rather than denied
}

// rule gives an action, a SECCOMP_RET_ value with its data, to calls whose arguments meet all conditions. Among
// the rules for one call those with conditions come first, in order.
type rule struct {
	names  []string
	action uint32
	conds  []cond
}

// cond compares argument arg of a call with val; two is the masked value of opMaskedEQ, for which val is the mask.
type cond struct {
	arg      uint32
	op       string
	val, two uint64
}

func errnoAction(e unix.Errno) uint32 {
	return unix.SECCOMP_RET_ERRNO | uint32(e)&unix.SECCOMP_RET_DATA
}

// filter compiles the filter for processes with a bounding set: the instructions as the kernel takes them, none without filter.
func (s *Seccomp) filter(bounding uint64) ([]byte, error) {
	var p *profile
	var err error
	switch s.Mode {
	case SeccompUnconfined:
		return nil, nil
	case SeccompDefault:
		p = defaultProfile(bounding)
	default:
		p, err = parseProfile(s.Profile, bounding)
	}
	if err != nil {
		return nil, err
	}
	prog := p.compile(arches())
	if len(prog) > 4096 { // BPF_MAXINSNS
		return nil, fmt.Errorf("compile seccomp profile: %d instructions are more than 4096", len(prog))
	}
	return instructions(prog), nil
}

// instructions is a program as the kernel takes it.
func instructions(prog []unix.SockFilter) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(&prog[0])), len(prog)*8)
}

// installFilter sets a compiled filter for the calling thread and what it executes.
func installFilter(filter []byte) error {
	if len(filter) == 0 {
		return nil
	}
	prog := make([]unix.SockFilter, len(filter)/8)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&prog[0])), len(filter)), filter)
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	_, _, e := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(prog)
	if e != 0 {
		return fmt.Errorf("install seccomp filter: %w", e)
	}
	return nil
}

// numbers reads an architecture's table.
func (a *arch) numbers() map[string]uint32 {
	f := strings.Fields(a.calls)
	m := make(map[string]uint32, len(f)/2)
	for i := 0; i+1 < len(f); i += 2 {
		n, _ := strconv.ParseUint(f[i+1], 10, 32)
		m[f[i]] = uint32(n)
	}
	return m
}

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

func ins(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
func load(off uint32) unix.SockFilter           { return ins(unix.BPF_LD|unix.BPF_W|unix.BPF_ABS, off) }
func ret(action uint32) unix.SockFilter         { return ins(unix.BPF_RET|unix.BPF_K, action) }

// compile gives one section for each architecture. In a section a binary search over the call numbers keeps every path short,
// which also makes the kernel's own pass over all numbers at installation cheap.
func (p *profile) compile(arches []arch) []unix.SockFilter {
	prog := []unix.SockFilter{load(offArch)}
	for n := range arches {
		if n > 0 && !p.foreign {
			break
		}
		section := p.section(&arches[n])
		prog = append(prog, branch(unix.BPF_JEQ, arches[n].audit, len(section), false)...)
		prog = append(prog, section...)
	}
	return append(prog, ret(p.fallback))
}

// branch jumps over the next skip instructions when the comparison is (on) or is not (!on) true.
func branch(cmp uint16, k uint32, skip int, on bool) []unix.SockFilter {
	j := ins(unix.BPF_JMP|cmp|unix.BPF_K, k)
	if skip <= 255 {
		if on {
			j.Jt = uint8(skip)
		} else {
			j.Jf = uint8(skip)
		}
		return []unix.SockFilter{j}
	}
	if on {
		j.Jf = 1
	} else {
		j.Jt = 1
	}
	return []unix.SockFilter{j, ins(unix.BPF_JMP|unix.BPF_JA, uint32(skip))}
}

// span is a run of call numbers from first to the next span with the same leaf.
type span struct {
	first uint32
	leaf  []unix.SockFilter
}

func (p *profile) section(a *arch) []unix.SockFilter {
	numbers := a.numbers()
	leaves := map[uint32][]*rule{}
	top := uint32(0)
	for i := range p.rules {
		r := &p.rules[i]
		for _, name := range r.names {
			if nr, ok := numbers[name]; ok {
				leaves[nr] = append(leaves[nr], r)
			}
		}
	}
	for _, nr := range numbers {
		top = max(top, nr)
	}
	fallback := []unix.SockFilter{ret(p.fallback)}
	spans := []span{{0, fallback}}
	for nr := uint32(0); nr <= top; nr++ {
		leaf := fallback
		if rules := leaves[nr]; rules != nil {
			leaf = p.leaf(rules)
		}
		if last := spans[len(spans)-1]; !slices.Equal(last.leaf, leaf) {
			if last.first == nr {
				spans = spans[:len(spans)-1]
			}
			spans = append(spans, span{nr, leaf})
		}
	}
	// Calls that are newer than the table do not exist for the program, which then falls back, instead of being forbidden.
	unknown := p.fallback
	if unknown == errnoAction(unix.EPERM) {
		unknown = errnoAction(unix.ENOSYS)
	}
	spans = append(spans, span{top + 1, []unix.SockFilter{ret(unknown)}})
	if a.audit == unix.AUDIT_ARCH_X86_64 {
		spans = append(spans, span{1 << 30, fallback}) // x32
	}
	return append([]unix.SockFilter{load(offNr)}, search(spans)...)
}

func search(spans []span) []unix.SockFilter {
	if len(spans) == 1 {
		return spans[0].leaf
	}
	mid := len(spans) / 2
	left, right := search(spans[:mid]), search(spans[mid:])
	out := branch(unix.BPF_JGE, spans[mid].first, len(left), true)
	return append(append(out, left...), right...)
}

// leaf decides on one call.
func (p *profile) leaf(rules []*rule) []unix.SockFilter {
	var out []unix.SockFilter
	final := p.fallback
	found := false
	for _, r := range rules {
		if len(r.conds) == 0 {
			if !found {
				final, found = r.action, true
			}
			continue
		}
		out = append(out, r.code()...)
	}
	return append(out, ret(final))
}

// Jump targets inside the code of a rule, resolved by rule.code.
const (
	toFail = 254
	toPass = 255
)

// code returns the action when all conditions hold, and else goes on behind itself.
func (r *rule) code() []unix.SockFilter {
	var out []unix.SockFilter
	for _, c := range r.conds {
		start := len(out)
		out = append(out, c.code()...)
		for i := start; i < len(out); i++ {
			if j := &out[i]; j.Code&7 == unix.BPF_JMP {
				for _, t := range []*uint8{&j.Jt, &j.Jf} {
					if *t == toPass {
						*t = uint8(len(out) - i - 1)
					}
				}
			}
		}
	}
	out = append(out, ret(r.action))
	for i := range out {
		if j := &out[i]; j.Code&7 == unix.BPF_JMP {
			for _, t := range []*uint8{&j.Jt, &j.Jf} {
				if *t == toFail {
					*t = uint8(len(out) - i - 1)
				}
			}
		}
	}
	return out
}

// Comparisons as profiles spell them.
const (
	opNE       = "SCMP_CMP_NE"
	opLT       = "SCMP_CMP_LT"
	opLE       = "SCMP_CMP_LE"
	opEQ       = "SCMP_CMP_EQ"
	opGE       = "SCMP_CMP_GE"
	opGT       = "SCMP_CMP_GT"
	opMaskedEQ = "SCMP_CMP_MASKED_EQ"
)

// code compares the two halves of an argument.
func (c *cond) code() []unix.SockFilter {
	lo, hi := load(offArgs+8*c.arg), load(offArgs+8*c.arg+4)
	jump := func(cmp uint16, v uint64, jt, jf uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | cmp | unix.BPF_K, K: uint32(v), Jt: jt, Jf: jf}
	}
	and := func(v uint64) unix.SockFilter { return ins(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, uint32(v)) }
	v := c.val
	switch c.op {
	case opEQ:
		return []unix.SockFilter{hi, jump(unix.BPF_JEQ, v>>32, 0, toFail), lo, jump(unix.BPF_JEQ, v, toPass, toFail)}
	case opNE:
		return []unix.SockFilter{hi, jump(unix.BPF_JEQ, v>>32, 0, toPass), lo, jump(unix.BPF_JEQ, v, toFail, toPass)}
	case opMaskedEQ:
		return []unix.SockFilter{
			hi, and(v >> 32), jump(unix.BPF_JEQ, c.two>>32, 0, toFail), lo, and(v), jump(unix.BPF_JEQ, c.two, toPass, toFail),
		}
	case opGT, opGE:
		cmp := uint16(unix.BPF_JGT)
		if c.op == opGE {
			cmp = unix.BPF_JGE
		}
		return []unix.SockFilter{
			hi, jump(unix.BPF_JGT, v>>32, toPass, 0), jump(unix.BPF_JEQ, v>>32, 0, toFail), lo, jump(cmp, v, toPass, toFail),
		}
	default: // opLT, opLE: the opposite
		cmp := uint16(unix.BPF_JGE)
		if c.op == opLE {
			cmp = unix.BPF_JGT
		}
		return []unix.SockFilter{
			hi, jump(unix.BPF_JGT, v>>32, toFail, 0), jump(unix.BPF_JEQ, v>>32, 0, toPass), lo, jump(cmp, v, toFail, toPass),
		}
	}
}
