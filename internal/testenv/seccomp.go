package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// olderVariable marks the process in which WithoutXattrAt runs tests.
const olderVariable = "MICA_TEST_WITHOUT_XATTRAT"

// WithoutXattrAt runs the tests of a pattern once more in a process to which the kernel is one before Linux 6.13: it lacks the
// calls that take a descriptor, a name and an attribute. TestMain of the package calls LackXattrAt.
func WithoutXattrAt(t *testing.T, pattern string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run="+pattern, "-test.count=1")
	cmd.Env = append(os.Environ(), olderVariable+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("without xattrat: %v\n%s", err, out)
	}
}

// LackXattrAt takes these calls from the process if that is the one of WithoutXattrAt.
func LackXattrAt() error {
	if os.Getenv(olderVariable) == "" {
		return nil
	}
	const first, last = 463, 466 // setxattrat to removexattrat, on every architecture
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	program := []unix.SockFilter{
		load(0), // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: first, Jf: 2},
		{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: last, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter))); e != 0 {
		return fmt.Errorf("filter system calls: %w", e)
	}
	return nil
}
