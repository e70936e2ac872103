package run

import (
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"mica/run/mountserver"
	"mica/run/sandbox"
	"mica/run/supervise"
	"mica/run/userns"
)

// In a process that was started as a part of a container, initialization does
// that part's work and does not return; in any other process it returns at
// once. It does not wait for main because packages are initialized in the order of
// their paths, as far as their imports allow: what only commands need comes
// after this one, and the regular expressions of the library for registries alone (oras.land/...) take half a
// millisecond in every process that gets so far.
func init() {
	easeCollector()
	// With a umask that takes from the owner too, the program could not use what it makes. The bits of the others
	// stay the caller's wish.
	unix.Umask(unix.Umask(0o077) &^ 0o700)
	sandbox.Main()
	args := os.Args
	switch {
	case len(args) == 1 && args[0] == supervise.Name, len(args) == 2 && args[1] == supervise.Flag:
		sandbox.NameProcess(supervise.Name)
		apart(func() int {
			return supervise.Main(len(args) == 2, func(root string) (supervise.Engine, error) { return openEngine(root) })
		})
	case len(args) == 1 && args[0] == mountserver.Name:
		apart(mountserver.Main)
	case len(args) > 2 && args[1] == userns.Flag:
		os.Exit(helper(args[2:]))
	}
}

// apart does all that the process is for in another goroutine: the one that
// initializes is bound to a thread, which makes it slow to wake.
func apart(work func() int) {
	go func() { os.Exit(work()) }()
	select {}
}

// easeCollector lets the heap grow for a second before garbage is collected:
// most of these processes have ended by then, or have made all the garbage that they will.
func easeCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(400)
	time.AfterFunc(time.Second, func() { debug.SetGCPercent(100) })
}
