package dropin

import (
	"strings"
	"testing"
)

func TestMisspeltDirectories(t *testing.T) {
	for key, want := range map[string]string{
		"uperdir": "upperdir", "upperdirs": "upperdir", "upprdir": "upperdir", "upeprdir": "upperdir", "lowedir": "lowerdir",
		"lowerdir+": "lowerdir", "lower_dir": "lowerdir", "workdor": "workdir", "wordkir": "workdir", "dir": "", "nodev2": "",
	} {
		inv, err := Parse([]string{"-o", "lowerdir=/l," + key + "=/x", "/m"})
		if want == "" {
			if err != nil || len(inv.Warnings) != 1 {
				t.Errorf("%s: %+v, %v; want a warning", key, inv, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "unknown option "+key+": do you mean "+want+"?") {
			t.Errorf("%s: %v; want a hint at %s", key, err, want)
		}
	}
}
