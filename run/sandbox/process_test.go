package sandbox

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExitStatus(t *testing.T) {
	for command, want := range map[string]ExitStatus{
		"exit 0": {}, "exit 42": {Code: 42}, "kill -9 $$": {Code: 137, Signal: 9}, "kill -TERM $$": {Code: 143, Signal: 15},
	} {
		if _, st := output(t, sh(command)); st.Code != want.Code || st.Signal != want.Signal {
			t.Errorf("%s: got %+v, want %+v", command, st, want)
		}
	}
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	script := dir + "/script"
	for name, text := range map[string]string{"script": "#!/no/such/interpreter\n", "garbage": "\x01\x02", "plain": "text"} {
		mode := os.FileMode(0o755)
		if name == "plain" {
			mode = 0o644
		}
		if err := os.WriteFile(dir+"/"+name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		arg  string
		code int
		msg  string
	}{
		{"nosuchcommand", 127, `exec: "nosuchcommand": executable file not found in $PATH`},
		{"/no/such/file", 127, `exec: "/no/such/file": stat /no/such/file: no such file or directory`},
		{"/etc", 126, `exec: "/etc": is a directory`},
		{"/mnt/plain", 126, `exec: "/mnt/plain": permission denied`},
		{"/mnt/garbage", 126, `exec /mnt/garbage: exec format error`},
		{"/mnt/script", 127, `exec /mnt/script: no such file or directory`},
	} {
		cfg := sh("")
		cfg.Process.Args = []string{c.arg}
		cfg.Mounts = []Mount{{Source: dir, Target: "/mnt"}}
		_, err := Start(t.Context(), cfg)
		var se *StartError
		if !errors.As(err, &se) || se.Code != c.code || se.Msg != c.msg {
			t.Errorf("%s: got %v, want code %d, %s", c.arg, err, c.code, c.msg)
		}
	}
	_ = script
	cfg := sh("")
	cfg.Process.Cwd = "/no/such/dir"
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), `working directory "/no/such/dir"`) {
		t.Errorf("missing working directory: %v", err)
	}
}

// piped starts a sandbox whose output can be read line by line.
func piped(t *testing.T, cfg *Config) (*Sandbox, *bufio.Reader) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cfg.Process.Stdout, cfg.Process.Stderr = w, w
	s, err := Start(t.Context(), cfg)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Kill(); s.Wait() })
	return s, bufio.NewReader(r)
}

func expect(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	got, err := r.ReadString('\n')
	if strings.TrimSpace(got) != want {
		t.Fatalf("got %q (%v), want %q", got, err, want)
	}
}

func TestSignalsReachMain(t *testing.T) {
	s, out := piped(t, self("signals"))
	expect(t, out, "ready")
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGHUP, unix.SIGINT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH} {
		if err := s.Main().Signal(sig); err != nil {
			t.Fatal(err)
		}
		expect(t, out, sig.String())
		if err := unix.Kill(s.PID(), sig); err != nil { // init forwards it
			t.Fatal(err)
		}
		expect(t, out, sig.String())
	}
	if err := s.Main().Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st, err := s.Wait(); err != nil || st.Signal != 9 {
		t.Errorf("after SIGKILL: %+v, %v", st, err)
	}
	if err := s.Main().Signal(unix.SIGTERM); !errors.Is(err, ErrEnded) {
		t.Errorf("signal after the end: %v", err)
	}
}

func TestTerminal(t *testing.T) {
	cfg := sh(`tty; stty size; ls -l /dev/console | cut -c1; echo to-console >/dev/console; trap 'stty size; exit 3' WINCH; echo ready; while :; do read x; done`)
	cfg.Process.TTY = true
	cfg.Process.Size = Size{Rows: 33, Cols: 99}
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Main().TTY().Close()
	out := bufio.NewReader(s.Main().TTY())
	for _, want := range []string{"/dev/pts/0", "33 99", "c", "to-console", "ready"} {
		expect(t, out, want)
	}
	if err := s.Main().Resize(Size{Rows: 40, Cols: 120}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Main().TTY().Write([]byte("\n")); err != nil { // ends the read, so that the trap runs
		t.Fatal(err)
	}
	rest, err := io.ReadAll(out)
	if !errors.Is(err, unix.EIO) || !strings.Contains(string(rest), "40 120") {
		t.Errorf("after resize: %q, %v", rest, err)
	}
	if st, err := s.Wait(); err != nil || st.Code != 3 {
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestTerminalInterrupt(t *testing.T) {
	cfg := sh(`trap 'echo caught; exit 5' INT; echo ready; while :; do read x; done`)
	cfg.Process.TTY = true
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	tty := s.Main().TTY()
	defer tty.Close()
	expect(t, bufio.NewReader(tty), "ready")
	if _, err := tty.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	if st, err := s.Wait(); err != nil || st.Code != 5 {
		t.Errorf("status %+v, %v", st, err)
	}
}

func TestDescriptors(t *testing.T) {
	// A descriptor that a careless caller left open across exec, and one to a directory.
	leak, err := unix.Open("/", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	out, st := output(t, self("fds"))
	got := lines(out)
	if st.Code != 0 || len(got) != 3 {
		t.Errorf("descriptors in the sandbox, want 0, 1, 2:\n%s", out)
	}
	cfg := self("sleep")
	s, r := piped(t, cfg)
	expect(t, r, "sleeping")
	p, text := execOutput(t, s, &Spec{Args: []string{commandPath, "fds"}})
	if st, err := p.Wait(); err != nil || st.Code != 0 || len(lines(text)) != 3 {
		t.Errorf("descriptors of a second process:\n%s(%+v, %v)", text, st, err)
	}
	dir, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cfg = sh("ls -l /proc/self/fd")
	cfg.Process.Stdin = dir
	if _, err := Start(t.Context(), cfg); err == nil {
		t.Error("a directory of the host was accepted as standard input")
	}
}

// execOutput runs another process to the end of its output.
func execOutput(t *testing.T, s *Sandbox, spec *Spec) (*Process, string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	spec.Stdout, spec.Stderr = w, w
	p, err := s.Exec(t.Context(), spec)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return p, string(text)
}

func TestExec(t *testing.T) {
	s, r := piped(t, self("sleep"))
	expect(t, r, "sleeping")
	env := []string{"PATH=/usr/bin:/bin", "GREETING=hi"}
	p, out := execOutput(t, s, &Spec{Args: []string{"sh", "-c", `echo $GREETING; pwd; umask; exit 9`}, Env: env, Cwd: "/usr"})
	if st, err := p.Wait(); err != nil || st.Code != 9 || out != "hi\n/usr\n0022\n" {
		t.Errorf("got %q, %+v, %v", out, st, err)
	}
	if _, err := s.Exec(t.Context(), &Spec{Args: []string{"nosuchcommand"}}); err == nil || err.(*StartError).Code != 127 {
		t.Errorf("missing command: %v", err)
	}
	p, err := s.Exec(t.Context(), &Spec{Args: []string{"sh", "-c", "stty size; exec sleep 1000"}, Env: env, TTY: true, Size: Size{7, 11}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.TTY().Close()
	expect(t, bufio.NewReader(p.TTY()), "7 11")
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if st, err := p.Wait(); err == nil || st.Code != 137 {
		t.Errorf("process of a killed sandbox: %+v, %v", st, err)
	}
	s.Wait()
	if _, err := s.Exec(t.Context(), &Spec{Args: []string{"true"}}); !errors.Is(err, ErrEnded) {
		t.Errorf("exec after the end: %v", err)
	}
}

func TestManyProcessesAtOnce(t *testing.T) {
	s, r := piped(t, self("sleep"))
	expect(t, r, "sleeping")
	errs := make(chan error, 20)
	for n := range cap(errs) {
		go func() {
			p, err := s.Exec(t.Context(), &Spec{Args: []string{"/bin/sh", "-c", fmt.Sprint("exit ", n)}})
			if err == nil {
				var st ExitStatus
				if st, err = p.Wait(); err == nil && st.Code != n {
					err = fmt.Errorf("process %d ended with %+v", n, st)
				}
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestOrphansAreReaped(t *testing.T) {
	out, st := output(t, sh(`(sh -c 'exit 0' & ) ; (sleep 0.05; exit 0) & wait; for p in /proc/[0-9]*; do grep -l Z $p/stat; done; exit 4`))
	if st.Code != 4 || strings.Contains(out, "/proc") {
		t.Errorf("zombies left (%+v):\n%s", st, out)
	}
}

func TestMainEndsAll(t *testing.T) {
	// The grandchild keeps the pipe open until it dies with the sandbox.
	if out, st := output(t, sh(`sleep 1000 & echo done`)); out != "done\n" || st.Code != 0 {
		t.Errorf("got %q, %+v", out, st)
	}
}

func TestSupervisorDeathKills(t *testing.T) {
	cmd := &exec.Cmd{Path: executableCopy(), Args: []string{commandPath, "supervise"}, Env: []string{"SCRATCH=" + scratch}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	expect(t, r, "sleeping")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// End of file only comes when every process in the sandbox is gone.
	if rest, err := io.ReadAll(r); err != nil || len(rest) != 0 {
		t.Errorf("got %q, %v", rest, err)
	}
	cmd.Wait()
}

func TestRlimits(t *testing.T) {
	cfg := sh("ulimit -n; ulimit -c")
	cfg.Rlimits = []Rlimit{{unix.RLIMIT_NOFILE, 100, 200}, {unix.RLIMIT_CORE, 0, 0}}
	if out, _ := output(t, cfg); !slices.Equal(lines(out), []string{"100\n", "0"}) {
		t.Errorf("got %q", out)
	}
	cfg = sh("true")
	cfg.Rlimits = []Rlimit{{unix.RLIMIT_NOFILE, 1 << 40, 1 << 40}}
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "hard limit") {
		t.Errorf("raised hard limit: %v", err)
	}
}
