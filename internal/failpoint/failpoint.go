// Package failpoint stops a program at named points, so that tests can see
// what a crash there leaves behind.
//
// The environment variable MICA_FAILPOINT holds NAME, NAME:kill or NAME:error:
// at the point of that name the process kills itself (the default) or the point
// returns an error. Unset, a point costs one comparison.
package failpoint

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Env is the environment variable that arms a point.
const Env = "MICA_FAILPOINT"

// armedName and armedAction are read from the environment once, before main.
var armedName, armedAction, _ = strings.Cut(os.Getenv(Env), ":")

// Hit is the point called name. It returns an error only when the point is
// armed to do so.
func Hit(name string) error {
	if armedName == "" || armedName != name {
		return nil
	}
	if armedAction == "error" {
		return fmt.Errorf("failpoint %s", name)
	}
	// SIGKILL, not exit: nothing deferred may run.
	if err := unix.Kill(os.Getpid(), unix.SIGKILL); err != nil {
		return fmt.Errorf("failpoint %s: %w", name, err)
	}
	select {}
}
