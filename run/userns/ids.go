package userns

import (
	"fmt"
	"os"

	"mica/run/sandbox"
)

// IDs resolves --userns.
func IDs(mode string) (sandbox.IDMap, error) {
	modes := map[string]sandbox.IDMode{
		"host": sandbox.IDsAuto, "private": sandbox.IDsAuto, // a plain user has the same for both
		"": sandbox.IDsAuto, "auto": sandbox.IDsAuto, "full": sandbox.IDsFull, "single": sandbox.IDsSingle, "keep-id": sandbox.IDsKeep,
	}
	m, ok := modes[mode]
	if !ok {
		return sandbox.IDMap{}, fmt.Errorf("user namespace mode %q: want auto, single, full or keep-id", mode)
	}
	return sandbox.ResolveIDs(m)
}

// overflowID is what the kernel shows for an id that a namespace has not.
const overflowID = 65534

// Inside is what a container calls an id of the machine.
func Inside(ranges []sandbox.IDRange, id uint32) uint32 {
	for _, r := range ranges {
		if id >= r.Outside && id-r.Outside < r.Size {
			return r.Inside + id - r.Outside
		}
	}
	return overflowID
}

// Outside is the reverse. An id that is emulated has none: its files are the user's.
func Outside(ranges []sandbox.IDRange, id uint32) uint32 {
	for _, r := range ranges {
		if id >= r.Inside && id-r.Inside < r.Size {
			return r.Outside + id - r.Inside
		}
	}
	return ranges[0].Outside
}

// Own is what a container calls the calling user and group.
func Own(ids sandbox.IDMap) (uid, gid uint32) {
	return Inside(ids.UIDs, uint32(os.Getuid())), Inside(ids.GIDs, uint32(os.Getgid()))
}
