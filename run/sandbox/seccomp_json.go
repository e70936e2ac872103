package sandbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// jsonProfile is Docker's format of a profile; see https://docs.docker.com/engine/security/seccomp/.
type jsonProfile struct {
	DefaultAction   string     `json:"defaultAction"`
	DefaultErrnoRet *uint32    `json:"defaultErrnoRet"`
	Architectures   []string   `json:"architectures"`
	ArchMap         []jsonArch `json:"archMap"`
	Syscalls        []struct {
		Name     string   `json:"name"`
		Names    []string `json:"names"`
		Action   string   `json:"action"`
		ErrnoRet *uint32  `json:"errnoRet"`
		Args     []struct {
			Index    uint32 `json:"index"`
			Value    uint64 `json:"value"`
			ValueTwo uint64 `json:"valueTwo"`
			Op       string `json:"op"`
		} `json:"args"`
		Includes jsonFilter `json:"includes"`
		Excludes jsonFilter `json:"excludes"`
	} `json:"syscalls"`
}

type jsonArch struct {
	Architecture     string   `json:"architecture"`
	SubArchitectures []string `json:"subArchitectures"`
}

type jsonFilter struct {
	Caps      []string `json:"caps"`
	Arches    []string `json:"arches"`
	MinKernel string   `json:"minKernel"`
}

// parseProfile reads a profile and keeps the rules that count for processes with a bounding set on this machine.
func parseProfile(text []byte, bounding uint64) (*profile, error) {
	var j jsonProfile
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, fmt.Errorf("read seccomp profile: %w", err)
	}
	p := &profile{}
	var err error
	if p.fallback, err = action(j.DefaultAction, j.DefaultErrnoRet); err != nil {
		return nil, err
	}
	p.foreign = j.wantsForeign()
	for _, sc := range j.Syscalls {
		in, err := sc.Includes.holds(bounding, true)
		if err != nil {
			return nil, err
		}
		out, err := sc.Excludes.holds(bounding, false)
		if err != nil {
			return nil, err
		}
		if !in || out {
			continue
		}
		r := rule{names: sc.Names}
		if sc.Name != "" {
			r.names = append(r.names, sc.Name)
		}
		if r.action, err = action(sc.Action, sc.ErrnoRet); err != nil {
			return nil, err
		}
		for _, a := range sc.Args {
			if a.Index > 5 || !slices.Contains([]string{opNE, opLT, opLE, opEQ, opGE, opGT, opMaskedEQ}, a.Op) {
				return nil, fmt.Errorf("read seccomp profile: bad condition %s on argument %d of %s", a.Op, a.Index, strings.Join(r.names, " "))
			}
			r.conds = append(r.conds, cond{arg: a.Index, op: a.Op, val: a.Value, two: a.ValueTwo})
		}
		p.rules = append(p.rules, r.split()...)
	}
	return p, nil
}

// split gives a rule for each condition where some are on the same argument, as runc does: any of them will do then.
func (r rule) split() []rule {
	var seen [6]bool
	for _, c := range r.conds {
		if seen[c.arg] {
			rules := make([]rule, len(r.conds))
			for i, c := range r.conds {
				rules[i] = rule{names: r.names, action: r.action, conds: []cond{c}}
			}
			return rules
		}
		seen[c.arg] = true
	}
	return []rule{r}
}

// wantsForeign says whether the profile has rules for the second architecture of this machine.
func (j *jsonProfile) wantsForeign() bool {
	all := arches()
	native, second := all[0], all[1]
	has := func(list []string, a arch) bool {
		return slices.ContainsFunc(list, func(s string) bool { return slices.Contains(a.names, s) })
	}
	for _, m := range j.ArchMap {
		if slices.Contains(native.names, m.Architecture) && has(m.SubArchitectures, second) {
			return true
		}
	}
	return has(j.Architectures, second)
}

// holds says whether the conditions of an includes (all) or excludes (any) section are met; an empty one excludes nothing
// and includes everything.
func (f *jsonFilter) holds(bounding uint64, all bool) (bool, error) {
	var met []bool
	if len(f.Caps) > 0 {
		for _, name := range f.Caps {
			bits, _, err := capBits([]string{name})
			if err != nil {
				return false, fmt.Errorf("read seccomp profile: %w", err)
			}
			met = append(met, bounding&bits != 0)
		}
	}
	if len(f.Arches) > 0 {
		native := arches()[0]
		met = append(met, slices.ContainsFunc(f.Arches, func(s string) bool { return slices.Contains(native.names, s) }))
	}
	if f.MinKernel != "" {
		var want [2]int
		if n, _ := fmt.Sscanf(f.MinKernel, "%d.%d", &want[0], &want[1]); n != 2 {
			return false, fmt.Errorf("read seccomp profile: bad minKernel %q", f.MinKernel)
		}
		have := kernelVersion()
		met = append(met, have[0] > want[0] || have[0] == want[0] && have[1] >= want[1])
	}
	if all {
		return !slices.Contains(met, false), nil
	}
	return slices.Contains(met, true), nil
}

func kernelVersion() (v [2]int) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &v[0], &v[1])
	}
	return v
}

// action is the return value of a filter for an action's name.
func action(name string, errnoRet *uint32) (uint32, error) {
	data := uint32(unix.EPERM)
	if errnoRet != nil {
		data = *errnoRet
	}
	if data > 4095 {
		return 0, fmt.Errorf("read seccomp profile: error number %d is too large", data)
	}
	switch name {
	case "SCMP_ACT_ALLOW":
		return unix.SECCOMP_RET_ALLOW, nil
	case "SCMP_ACT_ERRNO":
		return unix.SECCOMP_RET_ERRNO | data, nil
	case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD":
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case "SCMP_ACT_KILL_PROCESS":
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case "SCMP_ACT_TRAP":
		return unix.SECCOMP_RET_TRAP, nil
	case "SCMP_ACT_TRACE":
		return unix.SECCOMP_RET_TRACE | data, nil
	case "SCMP_ACT_LOG":
		return unix.SECCOMP_RET_LOG, nil
	}
	return 0, fmt.Errorf("read seccomp profile: action %q is not supported", name)
}
