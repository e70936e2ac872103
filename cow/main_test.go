package cow

import (
	"os"
	"testing"

	"mica/internal/testenv"
)

// TestMain runs the tests as a plain user, whom mica is for.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" { // that user is root there
		os.Exit(m.Run())
	}
	os.Exit(testenv.Main(m))
}
