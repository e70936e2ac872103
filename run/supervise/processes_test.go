package supervise

import (
	"bufio"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestProcessesOfNested: what runs in a pid namespace that the container has made is the container's as well.
func TestProcessesOfNested(t *testing.T) {
	cmd := exec.Command("sh", "-c", "unshare --pid --fork sh -c 'echo ready; exec sleep 300' & wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // and with the first process all
		_ = cmd.Wait()
	}()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	pids, err := processesOf(cmd.Process.Pid)
	if err != nil || len(pids) != 2 { // unshare and sleep
		t.Errorf("found %d, %v", pids, err)
	}
}
