package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
)

// terminal is a command line on a terminal of its own.
type terminal struct {
	t   *testing.T
	cmd *exec.Cmd
	pty *os.File
	end chan struct{} // closed when all that there was to read has been read

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

func (c *cli) terminal(rows, cols uint16, args ...string) *terminal {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	c.t.Cleanup(cancel)
	cmd := c.command(ctx, args...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: rows, Cols: cols})
	if err != nil {
		c.t.Fatal(err)
	}
	tt := &terminal{t: c.t, cmd: cmd, pty: f, end: make(chan struct{})}
	c.t.Cleanup(func() { f.Close() })
	go func() {
		defer close(tt.end)
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			tt.mu.Lock()
			tt.out.Write(buf[:n])
			tt.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return tt
}

func (tt *terminal) said() string {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	return tt.out.String()
}

func (tt *terminal) expect(words string) {
	tt.t.Helper()
	defer func() {
		if tt.t.Failed() {
			tt.t.Logf("the terminal shows %q", tt.said())
		}
	}()
	until(tt.t, words+" on the terminal", func() bool { return strings.Contains(tt.said(), words) })
}

func (tt *terminal) typed(keys string) {
	tt.t.Helper()
	if _, err := tt.pty.WriteString(keys); err != nil {
		tt.t.Fatal(err)
	}
}

// code waits for the end, and for what was said until then.
func (tt *terminal) code() int {
	_ = tt.cmd.Wait()
	select {
	case <-tt.end:
	case <-time.After(time.Second): // somebody else has the terminal
	}
	return tt.cmd.ProcessState.ExitCode()
}

func TestTerminal(t *testing.T) {
	c := newCLI(t)
	tt := c.terminal(33, 99, "run", "--rm", "-it", "-e", "PS1=>", "base", "sh")
	tt.expect(">")
	tt.typed("stty size; tty; echo $TERM-end\n")
	tt.expect("33 99\r\n/dev/pts/0\r\n")
	tt.expect("xterm-end")
	if err := pty.Setsize(tt.pty, &pty.Winsize{Rows: 12, Cols: 34}); err != nil {
		t.Fatal(err)
	}
	until(t, "the new size", func() bool {
		tt.typed("stty size\n")
		return strings.Contains(tt.said(), "12 34\r\n")
	})
	tt.typed("cat\nechoed\n")
	until(t, "cat", func() bool { return strings.Count(tt.said(), "echoed\r\n") == 2 })
	tt.typed("\x03") // ctrl-c ends cat, not the shell
	tt.expect("^C\r\n>")
	tt.typed("echo still-$((1+1)); exit 6\n")
	tt.expect("still-2")
	if code := tt.code(); code != 6 {
		t.Errorf("exit code %d", code)
	}
}

func TestDetachAndAttach(t *testing.T) {
	c := newCLI(t)
	c.remove("away")
	tt := c.terminal(24, 80, "run", "-it", "--name", "away", "-e", "PS1=>", "base", "sh")
	tt.expect(">")
	tt.typed("x=remembered\n")
	tt.typed("\x10\x11")
	if code := tt.code(); code != 0 {
		t.Errorf("detaching gives exit code %d", code)
	}
	if got := c.ok("inspect", "-f", "{{.State.Status}}", "away"); got != "running" {
		t.Fatalf("after detaching: %s", got)
	}
	back := c.terminal(24, 80, "attach", "away")
	back.typed("echo $x-too; exit 2\n")
	back.expect("remembered-too")
	if code := back.code(); code != 2 {
		t.Errorf("exit code %d", code)
	}
}

func TestExecOnATerminal(t *testing.T) {
	c := newCLI(t)
	c.remove("host-of-exec")
	c.ok("run", "-d", "--name", "host-of-exec", "base", "sleep", "1000")
	tt := c.terminal(20, 70, "exec", "-it", "host-of-exec", "sh", "-c", "stty size; read x; echo got $x; exit 3")
	tt.expect("20 70")
	tt.typed("keys\n")
	tt.expect("got keys")
	if code := tt.code(); code != 3 {
		t.Errorf("exit code %d", code)
	}
}

// The container outlives the terminal that started it.
func TestTerminalGoesAway(t *testing.T) {
	c := newCLI(t)
	c.remove("survivor")
	tt := c.terminal(24, 80, "run", "-it", "--name", "survivor", "-e", "PS1=>", "base", "sh")
	tt.expect(">")
	if err := tt.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	tt.code()
	if got := c.ok("exec", "survivor", "sh", "-c", "echo alive"); got != "alive" {
		t.Errorf("%q", got)
	}
}

func TestTerminalIsRefusedWithoutOne(t *testing.T) {
	newCLI(t).fails(125, "not a terminal", "run", "--rm", "-it", "base", "true")
}

// TestAttachWithoutTerminal: to the terminal of a container no other input is attached, and a signal ends the attaching.
func TestAttachWithoutTerminal(t *testing.T) {
	c := newCLI(t)
	c.remove("lonely")
	c.ok("run", "-dit", "--name", "lonely", "base", "sh", "-c", "trap '' TERM; while :; do echo tick; sleep 0.05; done")
	c.fails(125, "not a terminal", "attach", "lonely")
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := c.command(ctx, "attach", "--no-stdin", "lonely")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _ = cmd.Wait(); ctx.Err() != nil {
		t.Error("it goes on")
	}
	if got := c.ok("inspect", "-f", "{{.State.Running}}", "lonely"); got != "true" {
		t.Errorf("the container runs: %s", got)
	}
}
