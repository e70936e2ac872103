package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestProcessesBeginEarly: a process of a container does not wait until what only commands need is initialized.
func TestProcessesBeginEarly(t *testing.T) {
	newCLI(t)
	cmd := exec.Command(filepath.Join(shared.dir, "mica"))
	cmd.Args = []string{"mica-supervisor"}
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, _ := cmd.CombinedOutput() // there is nobody that tells it what to do
	if text := string(out); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(text, "init runtime ") || strings.Contains(text, "init oras.land/oras-go/v2/registry ") {
		t.Errorf("exit code %d\n%s", cmd.ProcessState.ExitCode(), text)
	}
}
