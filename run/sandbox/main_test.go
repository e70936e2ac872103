package sandbox

import (
	"os"
	"testing"

	"mica/internal/testenv"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(testenv.Main(m))
}
