package build

import "testing"

func TestWithoutRelabel(t *testing.T) {
	for mount, want := range map[string]string{
		"type=cache,target=/c,z": "type=cache,target=/c", "Z,type=bind": "type=bind", "type=bind,relabel=private,target=/z": "type=bind,target=/z",
		`type=bind,"source=a,b",relabel=shared`: `type=bind,"source=a,b"`, "type=cache,zz": "type=cache,zz", "relabel=odd": "relabel=odd", `a"b,z`: `a"b,z`, "": "",
	} {
		if got := withoutRelabel(mount); got != want {
			t.Errorf("%s: %s, want %s", mount, got, want)
		}
	}
}
