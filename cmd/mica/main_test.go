package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mica/internal/testenv"
	"mica/internal/testroot"
)

// actAsMica makes the test's executable behave as the program.
const actAsMica = "MICA_TEST_ACT"

func TestMain(m *testing.M) {
	if os.Getenv(actAsMica) != "" {
		os.Exit(execute(append([]string{"mica"}, os.Args[1:]...)))
	}
	if path := os.Getenv(mapVariable); path != "" {
		fmt.Println(writeMapped(path))
		os.Exit(1)
	}
	code := testenv.Main(m)
	if shared.dir != "" {
		os.RemoveAll(shared.dir)
	}
	os.Exit(code)
}

// shared is the store that the tests have in common: each uses containers of
// its own, and the image base.
var shared struct {
	once sync.Once
	dir  string
	err  error
}

// cli runs command lines on a store.
type cli struct {
	t    *testing.T
	root string
	env  []string
}

// newCLI gives the shared store with the image base in it.
func newCLI(t *testing.T) *cli {
	t.Helper()
	shared.once.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "mica-cli"); shared.err != nil {
			return
		}
		// The go command builds tests where plain users may not look.
		if shared.err = copyFile("/proc/self/exe", filepath.Join(shared.dir, "mica")); shared.err != nil {
			return
		}
		tar := filepath.Join(shared.dir, "base.tar")
		f, err := os.Create(tar)
		if err == nil {
			err = testroot.Write(f)
			f.Close()
		}
		if err == nil {
			c := &cli{t: t, root: filepath.Join(shared.dir, "store")}
			if out := c.run("import", "-m", "test root", tar, "base"); out.code != 0 {
				err = fmt.Errorf("import the test root: %s", out.stderr)
			}
		}
		shared.err = err
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return &cli{t: t, root: filepath.Join(shared.dir, "store")}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

// result is what came of a command line.
type result struct {
	stdout, stderr string
	code           int
}

// command prepares a command line.
func (c *cli) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(shared.dir, "mica"), args...)
	cmd.Env = append(os.Environ(), actAsMica+"=1", "MICA_ROOT="+c.root)
	cmd.Env = append(cmd.Env, c.env...)
	cmd.Dir = "/"
	return cmd
}

// limit bounds one command line.
const limit = 60 * time.Second

// runInput runs a command line with a standard input.
func (c *cli) runInput(input string, args ...string) result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := c.command(ctx, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ctx.Err() != nil {
		c.t.Fatalf("mica %s: took longer than %v\n%s%s", strings.Join(args, " "), limit, out.String(), errs.String())
	}
	if cmd.ProcessState == nil {
		c.t.Fatalf("mica %s: %v", strings.Join(args, " "), err)
	}
	return result{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

func (c *cli) run(args ...string) result {
	c.t.Helper()
	return c.runInput("", args...)
}

// ok runs a command line that must succeed and gives its output without the
// last line feed.
func (c *cli) ok(args ...string) string {
	c.t.Helper()
	r := c.run(args...)
	if r.code != 0 {
		c.t.Fatalf("mica %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// fails runs a command line that must fail with one clear line.
func (c *cli) fails(code int, words string, args ...string) {
	c.t.Helper()
	r := c.run(args...)
	if r.code != code || !strings.Contains(r.stderr, words) {
		c.t.Errorf("mica %s: exit code %d, %q; want %d and %q", strings.Join(args, " "), r.code, r.stderr, code, words)
	}
	if lines := strings.Count(r.stderr, "\n"); lines != 1 || !strings.HasPrefix(r.stderr, "mica: ") {
		c.t.Errorf("mica %s: want one line from mica, got %q", strings.Join(args, " "), r.stderr)
	}
}

// remove removes a container at the end of the test.
func (c *cli) remove(name string) {
	c.t.Cleanup(func() { c.run("rm", "-f", "-v", name) })
}

// until waits for a condition, as long as a loaded machine may take.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s in vain", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
