// Package mounted is what the host lends a container: volumes and paths that are mounted in it, in the terms of the sandbox,
// and reached from outside ([At]) by what copies to and from the container.
package mounted

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"mica/run/record"
	"mica/run/sandbox"
	"mica/run/userns"
	"mica/run/volume"
)

// OverHost are the mounts that hide what must not be seen through the machine's root: the
// store, which would hold itself, and the sockets and state of the machine's services.
func OverHost(store string) []sandbox.Mount {
	return []sandbox.Mount{
		{Kind: sandbox.MountTmpfs, Target: "/run", Options: "mode=755", NoSuid: true, NoDev: true},
		CoverStore(store),
	}
}

// CoverStore hides the store at its path in a container.
func CoverStore(target string) sandbox.Mount {
	return sandbox.Mount{Kind: sandbox.MountTmpfs, Target: target, Options: "mode=700,size=64k", NoSuid: true, NoDev: true, NoExec: true}
}

// ForSandbox puts mounts in the terms of the sandbox, those nearer to the
// root first. What is a union of its own has a server, which union starts.
func ForSandbox(mounts []record.Mount, union func(*record.Mount, *sandbox.Mount) error) ([]sandbox.Mount, error) {
	sorted := append([]record.Mount(nil), mounts...)
	sort.SliceStable(sorted, func(i, j int) bool { return depth(sorted[i].Target) < depth(sorted[j].Target) })
	var out []sandbox.Mount
	for _, m := range sorted {
		sm := sandbox.Mount{Target: m.Target, ReadOnly: m.ReadOnly, NoExec: m.NoExec, NoSuid: m.NoSuid, NoDev: m.NoDev}
		switch {
		case m.Type == record.MountTmpfs:
			sm.Kind, sm.Options = sandbox.MountTmpfs, m.Options
		case m.IsUnion():
			if err := union(&m, &sm); err != nil {
				return nil, fmt.Errorf("mount at %s: %w", m.Target, err)
			}
		default:
			sm.Kind, sm.Source, sm.Straight = sandbox.MountBind, m.Source, m.Type == record.MountBind
			if _, err := os.Stat(m.Source); err != nil {
				return nil, fmt.Errorf("mount at %s: %w", m.Target, err)
			}
		}
		out = append(out, sm)
	}
	return out, nil
}

func depth(p string) int { return strings.Count(path.Clean(p), "/") }

// source is where something mounted lies, a path without symlinks: only the way to the store may have some.
func source(m *record.Mount) string {
	if m.Type == record.MountVolume {
		if real, err := filepath.EvalSymlinks(m.Source); err == nil {
			return real
		}
	}
	return m.Source
}

// Volume is the volume that is mounted.
func Volume(m *record.Mount) *volume.Volume { return &volume.Volume{Name: m.Volume, Data: m.Source} }

// HoldsVolumes tells whether a container has the ids that its user's containers have by default.
func HoldsVolumes(cfg *record.Config) (bool, error) {
	ids, err := userns.IDs(cfg.Host.UserNS)
	if err != nil {
		return false, err
	}
	usual, err := sandbox.ResolveIDs(sandbox.IDsAuto)
	return err == nil && ids.Helpers == usual.Helpers, err
}

// Order sorts mounts so that none covers another that was meant to be
// seen: those nearer to the root come first, and otherwise the order stays.
func Order(mounts []sandbox.Mount) []sandbox.Mount {
	sort.SliceStable(mounts, func(i, j int) bool { return depth(mounts[i].Target) < depth(mounts[j].Target) })
	return mounts
}
