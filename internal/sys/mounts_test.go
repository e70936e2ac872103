package sys

import (
	"slices"
	"testing"
)

func TestMounts(t *testing.T) {
	list, err := Mounts()
	must(t, err)
	if !slices.ContainsFunc(list, func(m Mount) bool { return m.Point == "/proc" && m.Root == "/" && m.Type == "proc" && m.Dev != 0 }) {
		t.Errorf("/proc is not in %+v", list)
	}
	for in, want := range map[string]string{`/a\040b\134c`: `/a b\c`, `/x\011y\012`: "/x\ty\n", `/\04`: `/\04`, "/plain": "/plain"} {
		if got := unescape(in); got != want {
			t.Errorf("%q is read as %q, not %q", in, got, want)
		}
	}
}
