package sandbox

import "golang.org/x/sys/unix"

// arches are the architectures whose programs run here, the native one first.
func arches() []arch {
	return []arch{
		{audit: unix.AUDIT_ARCH_X86_64, names: []string{"amd64", "x86_64", "SCMP_ARCH_X86_64"}, calls: syscallsAMD64},
		{audit: unix.AUDIT_ARCH_I386, names: []string{"x86", "386", "SCMP_ARCH_X86"}, calls: syscalls386},
	}
}
