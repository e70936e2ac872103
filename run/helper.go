package run

import (
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"mica/run/mounted"
	"mica/run/volume"
)

// helper is the whole life of a process that works on the machine's files with the ids of containers; see package userns.
func helper(args []string) int {
	signal.Ignore(unix.SIGHUP)
	ops := map[string]func(dir string) error{"remove": os.RemoveAll, "settle": volume.Settle, "restore": volume.Restore}
	var err error
	if op := ops[args[0]]; op != nil && len(args) == 2 {
		err = op(args[1])
	} else {
		err = mounted.Help(os.Stdin, os.Stdout, args)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
