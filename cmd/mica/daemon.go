package main

import (
	"fmt"
	"os"
	"strings"
)

// daemonFlags are those that Docker and Podman take before the command, to say where a daemon is and how much is logged, and
// whether a value follows them.
var daemonFlags = map[string]bool{
	"-H": true, "--host": true, "-c": true, "--context": true, "--connection": true, "--url": true, "--config": true,
	"-l": true, "--log-level": true, "-D": false, "--debug": false, "-r": false, "--remote": false,
}

// withoutDaemon takes daemonFlags off the beginning of a command line, and says so: there is no daemon.
func withoutDaemon(line []string) []string {
	var idle []string
	for len(line) > 0 {
		name, _, has := strings.Cut(line[0], "=")
		value, known := daemonFlags[name]
		if !known || has && !value {
			break
		}
		idle, line = append(idle, name), line[1:]
		if value && !has && len(line) > 0 {
			line = line[1:]
		}
	}
	if len(idle) > 0 {
		fmt.Fprintln(os.Stderr, "mica: without effect:", strings.Join(idle, ", "))
	}
	return line
}
