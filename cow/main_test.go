package cow

import (
	"fmt"
	"os"
	"testing"

	"mica/internal/testenv"
)

// TestMain runs the tests as a plain user, whom mica is for.
func TestMain(m *testing.M) {
	if err := testenv.LackXattrAt(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if os.Getenv(insideEnv) != "" { // that user is root there
		os.Exit(m.Run())
	}
	os.Exit(testenv.Main(m))
}
