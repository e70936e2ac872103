package supervise

import (
	"os"
	"path/filepath"
	"testing"
)

// TestLastWords are those of the last supervisor.
func TestLastWords(t *testing.T) {
	dir := t.TempDir()
	said := ""
	say := func(words string) {
		t.Helper()
		said += words
		if err := os.WriteFile(filepath.Join(dir, supervisorLog), []byte(said), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ words, want string }{
		{"panic: first\n\ngoroutine 1 [running]:\n", ": panic: first"},
		{"\n panic: second\n\ngoroutine 1 [running]:\n", ": panic: second"},
		{"", ""},
		{"third", ": third"},
	} {
		before := saidBefore(dir)
		say(c.words)
		if got := lastWords(dir, before); got != c.want {
			t.Errorf("after %q: %q", c.words, got)
		}
	}
}
