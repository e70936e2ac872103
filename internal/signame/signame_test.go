package signame

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for name, want := range map[string]unix.Signal{
		"TERM": unix.SIGTERM, "sigterm": unix.SIGTERM, "9": unix.SIGKILL, "64": 64, "RTMIN": 34, "rtmin+3": 37, "SIGRTMAX-30": 34, "SIGRTMAX": 64,
	} {
		if got, err := Parse(name); err != nil || got != want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, want)
		}
	}
	for _, name := range []string{"", "0", "65", "-1", "SIG", "SIGNOT", "RTMIN-5", "RTMIN+31", "RTMAX+1", "RTMAX-31", "RTMIN+x", "RTMINX"} {
		if got, err := Parse(name); err == nil {
			t.Errorf("%q is signal %d", name, got)
		}
	}
}
