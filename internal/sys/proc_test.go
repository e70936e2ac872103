package sys

import (
	"os"
	"strconv"
	"testing"
)

func TestProcStat(t *testing.T) {
	f := ProcStat(os.Getpid())
	if len(f) < 20 || f[1] != strconv.Itoa(os.Getppid()) {
		t.Errorf("%q: want the parent %d second, and the start", f, os.Getppid())
	}
	if f := ProcStat(1 << 30); f != nil {
		t.Errorf("of no process: %q", f)
	}
}
