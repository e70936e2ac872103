package limits

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"mica/run/record"
)

func TestLimitFiles(t *testing.T) {
	files, controllers := limitFiles(&record.HostConfig{Memory: 64 << 20, CPUs: 1.5, PidsLimit: 20})
	want := [][2]string{{"memory.max", "67108864"}, {"cpu.max", "150000 100000"}, {"pids.max", "44"}}
	if !reflect.DeepEqual(files, want) || !reflect.DeepEqual(controllers, []string{"memory", "cpu", "pids"}) {
		t.Errorf("%v, %v", files, controllers)
	}
	// The least of a processor is 1 %.
	for cpus, want := range map[float64]string{0.005: "1000 100000", 0.29: "29000 100000", 2.5: "250000 100000"} {
		if files, _ := limitFiles(&record.HostConfig{CPUs: cpus}); len(files) != 1 || files[0][1] != want {
			t.Errorf("%v processors: %v, want %s", cpus, files, want)
		}
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
