package sandbox

import "golang.org/x/sys/unix"

// arches are the architectures whose programs run here, the native one first.
func arches() []arch {
	return []arch{
		{audit: unix.AUDIT_ARCH_AARCH64, names: []string{"arm64", "aarch64", "SCMP_ARCH_AARCH64"}, calls: syscallsARM64},
		{audit: unix.AUDIT_ARCH_ARM, names: []string{"arm", "SCMP_ARCH_ARM"}, calls: syscallsARM},
	}
}
