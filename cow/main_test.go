package cow

import (
	"os"
	"strings"
	"testing"

	"mica/internal/testenv"
)

// TestMain runs the tests as a plain user, whom mica is for. The workers of a
// fuzzing run are found by a path that only who started it can reach.
func TestMain(m *testing.M) {
	for _, arg := range os.Args[1:] {
		if strings.HasPrefix(arg, "-test.fuzz") {
			os.Exit(m.Run())
		}
	}
	os.Exit(testenv.Main(m))
}
