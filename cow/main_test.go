package cow

import (
	"os"
	"testing"

	"mica/internal/testenv"
)

// TestMain runs the tests as a plain user, whom mica is for.
func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }
