package bench

import (
	"os"
	"testing"
)

// TestMain makes the test binary an agent when it is started as one.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == AgentCommand {
		os.Exit(Agent())
	}
	os.Exit(m.Run())
}
