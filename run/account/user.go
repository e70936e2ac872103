// Package account knows the users of a container by its own account files: whom a process runs as, and how the calling user gets
// an entry there.
package account

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mica/run/sandbox"
)

// Identity is whom a process runs as, looked up in the image.
type Identity struct {
	sandbox.User
	Home string
}

// Files reads the account files of a container.
type Files interface {
	ReadFile(path string) ([]byte, error) // a missing file is empty
}

// keepGroups in the place of a group means those of the user of the host.
const keepGroups = "keep-groups"

// Lookup finds USER[:GROUP], each a name or a number, in the container's
// own /etc/passwd and /etc/group. An empty spec is root. A number need not be
// listed; the supplementary groups count where no group is named, and the group itself is
// one of them.
func Lookup(files Files, spec string, add []string) (Identity, error) {
	userSpec, groupSpec, hasGroup := strings.Cut(spec, ":")
	if userSpec == "" {
		userSpec = "0"
	}
	passwd, err := files.ReadFile("/etc/passwd")
	if err != nil {
		return Identity{}, fmt.Errorf("look up user %s: %w", userSpec, err)
	}
	id := Identity{Home: "/"}
	number, numErr := parseID(userSpec)
	name, found := "", false
	eachRecord(passwd, 7, func(f []string) bool {
		uid, err := parseID(f[2])
		if err != nil || f[0] != userSpec && (numErr != nil || uid != number) {
			return true
		}
		gid, err := parseID(f[3])
		if err != nil {
			return true
		}
		name, found = f[0], true
		id.UID, id.GID = uid, gid
		if f[5] != "" {
			id.Home = f[5]
		}
		return false
	})
	if !found {
		if numErr != nil {
			return Identity{}, fmt.Errorf("unable to find user %s: no matching entries in the container's /etc/passwd", userSpec)
		}
		id.UID = number
	}
	if !hasGroup && name == "" && len(add) == 0 {
		id.Groups = []uint32{id.GID}
		return id, nil
	}
	group, err := files.ReadFile("/etc/group")
	if err != nil {
		return Identity{}, fmt.Errorf("look up groups of user %s: %w", userSpec, err)
	}
	if hasGroup {
		gid, ok := findGroup(group, groupSpec)
		if !ok {
			return Identity{}, fmt.Errorf("unable to find group %s: no matching entries in the container's /etc/group", groupSpec)
		}
		id.GID = gid
	} else if name != "" {
		eachRecord(group, 4, func(f []string) bool {
			if gid, err := parseID(f[2]); err == nil && slices.Contains(strings.Split(f[3], ","), name) {
				id.Groups = append(id.Groups, gid)
			}
			return true
		})
	}
	for _, g := range add {
		if g == keepGroups {
			id.KeepGroups = true
			continue
		}
		gid, ok := findGroup(group, g)
		if !ok {
			return Identity{}, fmt.Errorf("unable to find group %s: no matching entries in the container's /etc/group", g)
		}
		id.Groups = append(id.Groups, gid)
	}
	// A set-group-id program changes the group, and must not take away what is shut to this one (CVE-2022-36109).
	id.Groups = append(id.Groups, id.GID)
	slices.Sort(id.Groups)
	id.Groups = slices.Compact(id.Groups)
	return id, nil
}

func findGroup(file []byte, spec string) (uint32, bool) {
	var gid uint32
	found := false
	eachRecord(file, 4, func(f []string) bool {
		n, err := parseID(f[2])
		if err == nil && f[0] == spec {
			gid, found = n, true
		}
		return !found
	})
	if !found {
		n, err := parseID(spec)
		return n, err == nil
	}
	return gid, true
}

// parseID reads a user or group id; -1 has a meaning of its own to the kernel.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n == 1<<32-1 {
		return 0, fmt.Errorf("id %s is out of range", s)
	}
	return uint32(n), err
}

// eachRecord calls fn with the fields of every line, until it says false.
// Lines with fewer fields than n are skipped.
func eachRecord(file []byte, n int, fn func(fields []string) bool) {
	for line := range bytes.Lines(file) {
		fields := strings.Split(string(bytes.TrimSpace(line)), ":")
		if len(fields) >= n && !fn(fields) {
			return
		}
	}
}
