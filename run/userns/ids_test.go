package userns

import (
	"reflect"
	"testing"

	"mica/run/sandbox"
)

func TestIDs(t *testing.T) {
	ranges := []sandbox.IDRange{{Inside: 0, Outside: 100000, Size: 1000}, {Inside: 1000, Outside: 1000, Size: 1}, {Inside: 1001, Outside: 101000, Size: 64535}}
	for outside, inside := range map[uint32]uint32{1000: 1000, 100000: 0, 100999: 999, 101000: 1001, 0: overflowID, 999: overflowID} {
		if got := Inside(ranges, outside); got != inside {
			t.Errorf("%d of the machine is %d inside, want %d", outside, got, inside)
		}
		if inside != overflowID {
			if got := Outside(ranges, inside); got != outside {
				t.Errorf("%d inside is %d of the machine, want %d", inside, got, outside)
			}
		}
	}
}

// TestModes: what Docker and Podman call the machine's ids, and those of a namespace of its own, is the default.
func TestModes(t *testing.T) {
	want, err := IDs("")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"auto", "host", "private"} {
		if got, err := IDs(mode); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", mode, got, err, want)
		}
	}
	if got, err := IDs("container:x"); err == nil {
		t.Errorf("ids of another container: %+v", got)
	}
}
