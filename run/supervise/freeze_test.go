package supervise

import (
	"testing"

	"mica/run/sandbox"
	"mica/run/tree"
)

// TestShownOwners shows owners that a container has no id for as one that it has.
func TestShownOwners(t *testing.T) {
	for name, c := range map[string]struct {
		uids []sandbox.IDRange
		want map[uint32]uint32
	}{
		"one id":             {[]sandbox.IDRange{{Inside: 0, Outside: 1000, Size: 1}}, map[uint32]uint32{0: 0, 5: 0, 1000: 0}},
		"the own id alone":   {[]sandbox.IDRange{{Inside: 1000, Outside: 1000, Size: 1}}, map[uint32]uint32{0: 1000, 5: 1000, 1000: 1000}},
		"ranges":             {[]sandbox.IDRange{{Inside: 0, Outside: 1000, Size: 1}, {Inside: 1, Outside: 100000, Size: 10}}, map[uint32]uint32{0: 0, 5: 5, 11: 0}},
		"ranges, the own id": {[]sandbox.IDRange{{Inside: 0, Outside: 100000, Size: 10}, {Inside: 1000, Outside: 1000, Size: 1}}, map[uint32]uint32{0: 0, 11: 0, 1000: 1000}},
	} {
		opt := serverOptions(&tree.Tree{IDs: sandbox.IDMap{UIDs: c.uids, GIDs: c.uids}})
		for id, want := range c.want {
			if u, g := opt.ShowUID(id), opt.ShowGID(id); u != want || g != want {
				t.Errorf("%s: %d is shown as %d, %d, want %d", name, id, u, g, want)
			}
		}
	}
}
