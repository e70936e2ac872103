package cow

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"
)

const freshEnv = "MICA_TEST_FRESH_TABLE"

// TestTableGrowsAhead needs processes of its own: a table never shrinks.
func TestTableGrowsAhead(t *testing.T) {
	for _, how := range []string{"asked", "used"} {
		t.Run(how, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestFreshTable$", "-test.count=1")
			cmd.Env = append(os.Environ(), freshEnv+"="+how)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		})
	}
}

// TestFreshTable is what TestTableGrowsAhead runs.
func TestFreshTable(t *testing.T) {
	how := os.Getenv(freshEnv)
	if how == "" {
		return
	}
	lower := tree{}
	for i := range smallTable/2 + 1 {
		lower[fmt.Sprintf("d%d/file", i)] = "text"
	}
	u := open(t, layers(t, lower))
	if size := tableSize(t); size >= wideTable {
		t.Fatalf("the table has room for %d descriptors from the start", size)
	}
	switch how {
	case "asked":
		u.Widen()
	case "used":
		for i := range smallTable/2 + 1 {
			dir, err := u.Lookup(u.Root(), fmt.Sprintf("d%d", i), nil)
			must(t, err)
			_, err = u.Lookup(dir, "file", nil)
			must(t, err)
		}
	}
	for end := time.Now().Add(time.Minute); tableSize(t) < min(wideTable, u.fds.limit); {
		if time.Now().After(end) {
			t.Fatalf("the table has room for %d descriptors after a minute", tableSize(t))
		}
		time.Sleep(time.Millisecond)
	}
}

// tableSize is for how many descriptors this process has room.
func tableSize(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	must(t, err)
	field := regexp.MustCompile(`(?m)^FDSize:\s*(\d+)$`).FindSubmatch(status)
	if field == nil {
		t.Fatal("no FDSize in /proc/self/status")
	}
	size, err := strconv.Atoi(string(field[1]))
	must(t, err)
	return size
}
