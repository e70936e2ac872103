package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"mica/internal/testenv"
)

// TestMain makes the test binary everything that the tests need: the supervisor, init, and the commands in the sandbox.
func TestMain(m *testing.M) {
	Main()
	if len(os.Args) > 1 && os.Args[0] == commandPath {
		if err := commands[os.Args[1]](os.Args[2:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if os.Geteuid() == 0 {
		os.Exit(testenv.Main(m))
	}
	os.Exit(run(m))
}

// commandPath is where the test binary lies in the sandbox as a command.
const commandPath = "/tmp/sandbox-test-command"

// sh is a configuration that runs a shell command over the host's own root, read-only.
func sh(command string) *Config {
	return &Config{
		Root: Root{Dir: "/"}, ReadOnlyRoot: true,
		Process: Spec{Args: []string{"/bin/sh", "-c", command}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
	}
}

// self is a configuration that runs one of the commands of the test binary.
func self(args ...string) *Config {
	cfg := sh("")
	cfg.Mounts = []Mount{{Kind: MountTmpfs, Target: "/tmp"}, {Source: executableCopy(), Target: commandPath}}
	cfg.Process.Args = append([]string{commandPath}, args...)
	return cfg
}

// executableCopy is the path of the test binary: a copy, because the go command's own may lie in a closed directory.
var executableCopy = sync.OnceValue(func() string {
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	file := filepath.Join(scratch, "command")
	if err := os.WriteFile(file, text, 0o755); err != nil {
		panic(err)
	}
	return file
})

// scratch is a directory for the run of the tests.
var scratch string

func run(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "sandbox-test-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(scratch)
	return m.Run()
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

// commands are what the test binary does inside a sandbox.
var commands = map[string]func(args []string) error{
	"listen": func(args []string) error {
		l, err := net.Listen("tcp", ":"+args[0])
		if err != nil {
			return err
		}
		fmt.Println("listening")
		for { // until somebody says that it has come: with this process the network ends
			c, err := l.Accept()
			if err != nil {
				return err
			}
			_, err = c.Write([]byte("from inside"))
			_ = c.(*net.TCPConn).CloseWrite()
			if n, _ := c.Read(make([]byte, 1)); err == nil && n == 1 {
				return nil
			}
			c.Close()
		}
	},
	// fds prints the open descriptors, but for those that the Go runtime opens for itself.
	"fds": func([]string) error {
		entries, err := os.ReadDir("/proc/self/fd")
		for _, e := range entries {
			fd, _ := strconv.Atoi(e.Name())
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if err != nil || flags&unix.FD_CLOEXEC != 0 {
				continue // opened since the program was executed: by the runtime, or a package
			}
			to, err := os.Readlink("/proc/self/fd/" + e.Name())
			fmt.Println(e.Name(), to, err)
		}
		return err
	},
}

func init() {
	commands["signals"] = func([]string) error {
		c := make(chan os.Signal, 16)
		signal.Notify(c, unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH)
		fmt.Println("ready")
		for s := range c {
			fmt.Println(s)
		}
		return nil
	}
	commands["sleep"] = func([]string) error {
		fmt.Println("sleeping")
		return unix.Pause()
	}
	commands["supervise"] = func([]string) error {
		scratch = os.Getenv("SCRATCH")
		cfg := sh("echo sleeping; sleep 1000 & sleep 1000")
		cfg.Process.Stdout = os.Stdout
		s, err := Start(context.Background(), cfg)
		if err == nil {
			_, err = s.Wait()
		}
		return err
	}
}

func lines(s string) []string { return slices.Collect(strings.Lines(strings.TrimSpace(s))) }
