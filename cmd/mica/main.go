// No process is to look for the limits of its cgroup at its start, and again every second.

//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command mica runs, mounts, commits and inspects container images with no
// root and no daemon.
package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mica/run/control"
	"mica/run/supervise"
)

// exitOurs is the exit code of mica's own errors, as Docker has it.
const exitOurs = 125

// exitCode ends the program with a code and prints nothing: whatever there was
// to say has been said, or is the contained command's own business.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// failed is an error that ends the program with another code than exitOurs.
type failed struct {
	code int
	error
}

func (f *failed) Unwrap() error { return f.error }

// main is not where the processes of a container begin: see package run.
func main() { os.Exit(execute(os.Args)) }

// asMountProgram tells whether mica is called as fuse-overlayfs is: by that name, or as a mount program of Podman and Buildah.
// No command of its own begins with options of a mount.
func asMountProgram(name string, line []string) bool {
	return name == "fuse-overlayfs" || len(line) > 0 && strings.HasPrefix(line[0], "-o")
}

// execute does one command line and gives the exit code.
func execute(args []string) int {
	// What the caller has open is not for the supervisors and servers that outlive this command: they would hold its locks and
	// keep its pipes from ending.
	_ = unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC)
	line := withoutDaemon(args[1:])
	if asMountProgram(filepath.Base(args[0]), line) {
		line = append([]string{"overlay"}, line...)
	}
	first := ""
	if len(line) > 0 {
		first = line[0]
	}
	var waiting *supervise.Waiting
	if first == "run" {
		waiting = supervise.Prepare()
	}
	root := newRootCommand(first, waiting)
	root.SetArgs(line)
	err := root.Execute()
	if err == nil {
		err = stdout.failed()
	}
	var code exitCode
	var coded *control.Error
	var other *failed
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &coded) && coded.Code != 0:
		complain(err)
		return coded.Code
	case errors.As(err, &other):
		complain(err)
		return other.code
	}
	complain(err)
	return exitOurs
}
