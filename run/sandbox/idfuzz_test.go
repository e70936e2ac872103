package sandbox

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestEmulationAgreesWithKernel makes the same calls where ids are real and where they are emulated.
func TestEmulationAgreesWithKernel(t *testing.T) {
	full, err := ResolveIDs(IDsFull)
	if err != nil {
		t.Fatal(err)
	}
	ambient := "keep"
	probe := self("execambient")
	probe.IDs = full
	switch out, st := output(t, probe); {
	case st.Code != 0:
		t.Fatalf("a probe with real ids: %+v\n%s", st, out)
	case out == "0\n":
		t.Log("before Linux 6.16 the ambient capabilities are lost by an exec where the effective ids are not the real ones: each is made without any")
		ambient = "drop"
	}
	seeds := []int{84, 363} // ones in which real capabilities are lost
	for seed := range 20 {
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		cfg := self("idfuzz", strconv.Itoa(seed), ambient)
		cfg.IDs = full
		want, st := output(t, cfg)
		if st.Code != 0 {
			t.Fatalf("seed %d with real ids: %+v\n%s", seed, st, want)
		}
		got, _ := output(t, oneID(t, self("idfuzz", strconv.Itoa(seed), ambient)))
		if got == want {
			continue
		}
		w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
		for n := range w {
			if n >= len(g) || g[n] != w[n] {
				from := max(0, n-6)
				t.Fatalf("seed %d differs at line %d:\nreal:\n%s\nemulated:\n%s", seed, n,
					strings.Join(w[from:n+1], "\n"), strings.Join(g[from:min(n+1, len(g))], "\n"))
			}
		}
	}
}

func init() {
	commands["idfuzz"] = func(args []string) error {
		seed, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil {
			return err
		}
		runtime.LockOSThread()
		r := rand.New(rand.NewPCG(seed, 1))
		for n := range 150 {
			fuzzCall(r, n < 8)
			showIdentity()
			if n%50 == 49 && len(args) < 5 { // and go on with what is left after an exec
				if args[1] == "drop" {
					raw(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL)
				}
				return unix.Exec(commandPath, append([]string{commandPath, "idfuzz", strconv.FormatUint(seed*7+uint64(n), 10)}, append(args[1:], "x")...), nil)
			}
		}
		return nil
	}
	// execambient tells whether an ambient capability outlives an exec with a real id that is not the effective one.
	commands["execambient"] = func(args []string) error {
		if len(args) > 0 {
			set, _, _ := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, unix.CAP_KILL)
			fmt.Println(set)
			return nil
		}
		runtime.LockOSThread()
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		data := [2]unix.CapUserData{}
		if err := unix.Capget(&hdr, &data[0]); err != nil {
			return err
		}
		data[0].Inheritable |= 1 << unix.CAP_KILL
		if err := unix.Capset(&hdr, &data[0]); err != nil {
			return err
		}
		if err := raw(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, unix.CAP_KILL); err != nil {
			return err
		}
		if err := raw(unix.SYS_SETRESUID, 1, 0, 0); err != nil {
			return err
		}
		return unix.Exec(commandPath, []string{commandPath, "execambient", "after"}, nil)
	}
}

// fuzzCall makes one random call, of another kind first, and prints how it ended.
func fuzzCall(r *rand.Rand, first bool) {
	id := func() uintptr {
		if r.IntN(5) == 0 {
			return uintptr(^uint32(0))
		}
		return uintptr(r.IntN(3))
	}
	three := []string{"setresuid", "setresgid"}
	numbers := map[string]uintptr{
		"setuid": unix.SYS_SETUID, "setgid": unix.SYS_SETGID, "setreuid": unix.SYS_SETREUID, "setregid": unix.SYS_SETREGID,
		"setresuid": unix.SYS_SETRESUID, "setresgid": unix.SYS_SETRESGID, "setfsuid": unix.SYS_SETFSUID, "setfsgid": unix.SYS_SETFSGID,
	}
	names := []string{"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setfsuid", "setfsgid", "setgroups", "keepcaps", "capset", "setresuid", "ambient"}
	if first {
		// Those ask for capabilities that are real, which do not come back by a change of identity.
		names = []string{"securebits", "bounding", "ambient", "keepcaps", "setresuid"}
	}
	name := names[r.IntN(len(names))]
	a, b, c := id(), id(), id()
	switch name {
	case "setgroups":
		groups := []uint32{uint32(a), uint32(b), uint32(c)}[:r.IntN(4)]
		for i := range groups {
			groups[i] %= 1000
		}
		var p uintptr
		if len(groups) > 0 {
			p = uintptr(unsafe.Pointer(&groups[0]))
		}
		fmt.Println(name, groups, errnoName(raw(unix.SYS_SETGROUPS, uintptr(len(groups)), p)))
		runtime.KeepAlive(groups)
	case "keepcaps":
		fmt.Println(name, a%2, errnoName(raw(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, a%2)))
	case "securebits":
		bits := []uintptr{0, 1, 4, 0x10, 0x40, 0x20, 5}[r.IntN(7)]
		fmt.Println(name, bits, errnoName(raw(unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, bits)))
	case "bounding":
		fmt.Println(name, errnoName(raw(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, fuzzCaps[r.IntN(len(fuzzCaps))])))
	case "ambient":
		op := []uintptr{unix.PR_CAP_AMBIENT_RAISE, unix.PR_CAP_AMBIENT_RAISE, unix.PR_CAP_AMBIENT_LOWER, unix.PR_CAP_AMBIENT_CLEAR_ALL}[r.IntN(4)]
		var which uintptr
		if op != unix.PR_CAP_AMBIENT_CLEAR_ALL {
			which = fuzzCaps[r.IntN(len(fuzzCaps))]
		}
		fmt.Println(name, op, which, errnoName(raw(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, op, which)))
	case "capset":
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		data := [2]unix.CapUserData{}
		if err := unix.Capget(&hdr, &data[0]); err != nil {
			fmt.Println("capget", err)
			return
		}
		switch r.IntN(7) {
		case 4:
			data[0].Inheritable = data[0].Permitted
		case 5:
			data[0].Inheritable |= 1 << unix.CAP_KILL
		case 6:
			data[0].Inheritable &= 1 << unix.CAP_SETUID
		case 0:
			data[0].Effective = data[0].Permitted
		case 1:
			data[0].Effective &^= 1 << unix.CAP_SETUID
		case 2:
			data[0].Effective |= 1 << unix.CAP_SETGID
		case 3:
			data[0].Effective = data[0].Permitted &^ (1 << unix.CAP_SETGID)
		}
		fmt.Println(name, errnoName(unix.Capset(&hdr, &data[0])))
	default:
		n := 1
		if strings.Contains(name, "re") {
			n = 2
		}
		for _, t := range three {
			if name == t {
				n = 3
			}
		}
		args := []uintptr{a, b, c}[:n]
		v, _, e := unix.RawSyscall(numbers[name], a, b, c)
		fmt.Println(name, args, v+uintptr(e), e)
	}
}

// fuzzCaps are the capabilities that calls are about.
var fuzzCaps = []uintptr{unix.CAP_KILL, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_NET_RAW}

// showIdentity prints all that a process can see of its identity.
func showIdentity() {
	var u, g [3]uint32
	p := func(v *uint32) uintptr { return uintptr(unsafe.Pointer(v)) }
	raw(unix.SYS_GETRESUID, p(&u[0]), p(&u[1]), p(&u[2]))
	raw(unix.SYS_GETRESGID, p(&g[0]), p(&g[1]), p(&g[2]))
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	unix.Capget(&hdr, &data[0])
	groups, _ := unix.Getgroups()
	fsuid, _, _ := unix.RawSyscall(unix.SYS_SETFSUID, uintptr(^uint32(0)), 0, 0)
	fmt.Println(" ", u, g, os.Getuid(), os.Geteuid(), os.Getgid(), os.Getegid(), fsuid, groups,
		fmt.Sprintf("%x %x %x", data[0].Permitted, data[0].Effective, data[0].Inheritable))
	secure, _, _ := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_SECUREBITS, 0, 0)
	fmt.Print("  ", secure)
	for _, which := range fuzzCaps {
		set, _, _ := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, which)
		fmt.Print(" ", set)
	}
	fmt.Println()
}
