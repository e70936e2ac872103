package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Caps adjusts the default capability set (the fourteen that Docker gives). Names with or without CAP_, in any case; "ALL".
// As in Docker: ALL in Add is all but what Drop names, ALL in Drop is nothing but what Add names, and otherwise Drop comes
// before Add.
type Caps struct{ Add, Drop []string }

// capNames are the capabilities in the order of their numbers; see capabilities(7).
const capNames = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE " +
	"NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE " +
	"SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL " +
	"SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"

const defaultCaps = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FSETID | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_MKNOD | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETFCAP |
	1<<unix.CAP_SETPCAP | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_KILL | 1<<unix.CAP_AUDIT_WRITE

// mask is the resulting set, one bit for each capability.
func (c Caps) mask() (uint64, error) {
	all := uint64(1)<<(unix.CAP_LAST_CAP+1) - 1
	add, addAll, err := capBits(c.Add)
	if err != nil {
		return 0, err
	}
	drop, dropAll, err := capBits(c.Drop)
	if err != nil {
		return 0, err
	}
	switch {
	case addAll: // a drop of ALL beside it means nothing
		return all &^ drop, nil
	case dropAll:
		return add, nil
	}
	return defaultCaps&^drop | add, nil
}

func capBits(names []string) (bits uint64, all bool, err error) {
	known := strings.Fields(capNames)
next:
	for _, name := range names {
		short := strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(name)), "CAP_")
		if short == "ALL" {
			all = true
			continue
		}
		for i, k := range known {
			if k == short {
				bits |= 1 << i
				continue next
			}
		}
		return 0, false, fmt.Errorf("find capability %q: there is none of that name (see capabilities(7))", name)
	}
	return bits, all, nil
}

// lastCap is the highest capability that the running kernel knows.
func lastCap() int {
	b, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n < 63 {
			return n
		}
	}
	return unix.CAP_LAST_CAP
}

// limitThread reduces what the calling thread can hand on to programs that it executes: the bounding set becomes bounding,
// nothing is inheritable or ambient. The thread itself keeps its capabilities. The goroutine must be locked to the thread.
func limitThread(bounding uint64, last int) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	data[0].Inheritable, data[1].Inheritable = 0, 0 // the ambient set follows
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return fmt.Errorf("clear inheritable capabilities: %w", err)
	}
	for c := 0; c <= last; c++ {
		if bounding>>c&1 == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
				return fmt.Errorf("drop capability %d: %w", c, err)
			}
		}
	}
	runtime.KeepAlive(&data)
	return nil
}
