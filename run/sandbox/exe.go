package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// reachInit are the capabilities with which a process in the sandbox may look into init.
const reachInit = 1<<unix.CAP_SYS_PTRACE | 1<<unix.CAP_SYS_ADMIN

// executable returns the path from which init is to be executed, and whether that is safe from processes that may look
// into init. Others cannot reach the executable of init, which is not dumpable. If there will be such ones, and the user may
// change the executable, it is a sealed copy in memory, so that nothing they do changes the file on the host.
func executable(bounding uint64) (path string, safe bool, done func(), err error) {
	const self = "/proc/self/exe"
	none := func() {}
	var st unix.Stat_t
	if err := unix.Stat(self, &st); err == nil && st.Uid != uint32(os.Geteuid()) && errors.Is(unix.Access(self, unix.W_OK), unix.EACCES) {
		return self, true, none, nil
	}
	if bounding&reachInit == 0 {
		return self, false, none, nil
	}
	src, err := os.Open(self)
	if err != nil {
		return "", false, none, fmt.Errorf("copy own executable: %w", err)
	}
	defer src.Close()
	fd, err := unix.MemfdCreate(initName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // MFD_EXEC came with Linux 6.3
		fd, err = unix.MemfdCreate(initName, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return "", false, none, fmt.Errorf("copy own executable: %w", err)
	}
	dst := os.NewFile(uintptr(fd), initName)
	if _, err = io.Copy(dst, src); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		dst.Close()
		return "", false, none, fmt.Errorf("copy own executable: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", fd), true, func() { dst.Close() }, nil
}
