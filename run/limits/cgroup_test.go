package limits

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"mica/run/record"
)

func TestLimitFiles(t *testing.T) {
	files, controllers := limitFiles(&record.HostConfig{Memory: 64 << 20, CPUs: 1.5, PidsLimit: 20})
	want := [][2]string{{"memory.max", "67108864"}, {"cpu.max", "150000 100000"}, {"pids.max", "20"}}
	if !reflect.DeepEqual(files, want) || !reflect.DeepEqual(controllers, []string{"memory", "cpu", "pids"}) {
		t.Errorf("%v, %v", files, controllers)
	}
	if files, controllers := limitFiles(&record.HostConfig{}); files != nil || controllers != nil {
		t.Errorf("without limits: %v, %v", files, controllers)
	}
}

// TestDelegatedBelow finds the cgroup to make others in, in a tree of files like the kernel's.
func TestDelegatedBelow(t *testing.T) {
	top := t.TempDir()
	for dir, c := range map[string]struct{ procs, controllers string }{
		"":                 {"1\n", "cpu memory pids\n"},
		"user":             {"", "cpu memory pids\n"},
		"user/shell":       {"5\n", "cpu memory pids\n"},
		"user/shell/inner": {"", "memory\n"},
		"busy":             {"7\n", "cpu memory pids\n"},
	} {
		path := filepath.Join(top, dir)
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"cgroup.procs": c.procs, "cgroup.controllers": c.controllers, "cgroup.subtree_control": ""} {
			if err := os.WriteFile(filepath.Join(path, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		own         string
		controllers []string
		want        string // empty: none
	}{
		{"/user/shell", []string{"pids"}, "user"},
		{"/user/shell/inner", []string{"memory"}, "user/shell/inner"},
		{"/user/shell/inner", []string{"memory", "cpu"}, "user"},
		{"/busy", []string{"pids"}, ""},
		{"/user/shell", []string{"hugetlb"}, ""},
		{"/", []string{"pids"}, ""},
	} {
		got, err := delegatedBelow(top, c.own, c.controllers)
		if c.want == "" && err == nil || c.want != "" && got != filepath.Join(top, c.want) {
			t.Errorf("%s for %v: %q, %v", c.own, c.controllers, got, err)
		}
	}
}

// TestScopeProperties: the least of a processor is 1 %, as in a cgroup of our own.
func TestScopeProperties(t *testing.T) {
	for cpus, want := range map[float64]string{0: "", 0.005: "-p CPUQuota=1%", 0.29: "-p CPUQuota=29%", 2.5: "-p CPUQuota=250%"} {
		if got := strings.Join(scopeProperties(&record.HostConfig{CPUs: cpus}), " "); got != want {
			t.Errorf("%v processors: %s, want %s", cpus, got, want)
		}
	}
}
