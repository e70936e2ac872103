// Package limits sets what a container may take of the machine: resource limits of its processes, and limits of memory, cpus and
// processes by a cgroup, which the user's systemd makes, or which is made here where one is delegated to the user.
package limits

import (
	"errors"

	"mica/run/record"
)

// Wanted tells whether a container is to have limits that take a cgroup.
func Wanted(host *record.HostConfig) bool {
	return host.Memory != 0 || host.CPUs != 0 || host.PidsLimit != 0
}

// Check tells whether those limits can be set.
func Check(host *record.HostConfig) error {
	if _, err := userManager(); err == nil {
		return nil
	}
	_, controllers := limitFiles(host)
	_, err := delegatedCgroup(controllers)
	return err
}

// errNoCgroup says why limits cannot be set, and what would help.
var errNoCgroup = errors.New("limits of memory, cpus and processes need a cgroup (version 2) that is delegated to you; " +
	"log in through systemd with a user session (loginctl enable-linger), or leave --memory, --cpus and --pids-limit out")
