package sandbox

import (
	"bytes"
	"io"
	"os"
	"testing"
)

// sh is a configuration that runs a shell command over the host's own root, read-only.
func sh(command string) *Config {
	return &Config{
		Root: Root{Dir: "/"}, ReadOnlyRoot: true,
		Process: Spec{Args: []string{"/bin/sh", "-c", command}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
	}
}

// output runs a sandbox to its end and returns what it printed on both outputs.
func output(t *testing.T, cfg *Config) (string, ExitStatus) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cfg.Process.Stdout, cfg.Process.Stderr = w, w
	s, err := Start(t.Context(), cfg)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := io.Copy(&out, r); err != nil {
		t.Fatal(err)
	}
	st, err := s.Wait()
	if err != nil {
		t.Fatalf("wait: %v (output %q)", err, out.String())
	}
	return out.String(), st
}

func TestHello(t *testing.T) {
	out, st := output(t, sh("echo hello; id; ls -l /dev /proc/self/fd; cat /proc/self/mountinfo; exit 7"))
	t.Log(out, st)
}
