package sandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// PastaDNS is an address at which pasta answers name queries inside the sandbox by asking the host's own name server. It is
// for resolv.conf where the host's name server is not reached at its own.
const PastaDNS = "169.254.1.1"

// guard executes a command and kills it when standard input ends. It is how pasta ends with a supervisor that is killed: a
// parent-death signal would be cleared when pasta changes its credentials.
// Descriptors 3 and 4 are pasta's, see namespaceFiles.
const guard = `exec 9<&0; { read -r _ <&9; kill $$; } >/dev/null 2>&1 3<&- 4<&- & exec "$@" 9<&- </dev/null`

// connectPasta connects the network namespace of init to the host's network and returns when it is ready. pasta ends with the
// sandbox, or with the supervisor.
func (s *Sandbox) connectPasta() error {
	if _, err := exec.LookPath("pasta"); err != nil {
		return errors.New("connect network: pasta is not installed (Debian: apt install passt); or choose --network host or none")
	}
	const tun = "/dev/net/tun"
	if err := unix.Access(tun, unix.R_OK|unix.W_OK); err != nil {
		return fmt.Errorf("connect network: open %s: %w: pasta needs it; load it with: modprobe tun, open it to users with: chmod 666 %s (lasting: a udev rule KERNEL==\"tun\", MODE=\"0666\")", tun, err, tun)
	}
	tcp, udp, err := portArgs(s.cfg.Ports)
	if err != nil {
		return err
	}
	args := append(tcp, udp...)
	err = s.startPasta(nil, append(args, strconv.Itoa(s.pid))...)
	if err == nil || !strings.Contains(err.Error(), "namespace") {
		return err
	}
	// An AppArmor profile may keep pasta from opening the namespaces of another process (Debian 12's does), not from using
	// descriptors of them. They are not the first choice, since later versions of pasta close what they inherit.
	files, openErr := s.namespaceFiles()
	if openErr != nil {
		return err
	}
	again := s.startPasta(files, append(args, "--userns", "/proc/self/fd/3", "--netns", "/proc/self/fd/4")...)
	for _, f := range files {
		f.Close()
	}
	if again != nil && strings.Contains(again.Error(), "namespace") {
		return err
	}
	return again
}

// namespaceFiles opens the user and the network namespace of init, which become descriptors 3 and 4 of a command.
func (s *Sandbox) namespaceFiles() ([]*os.File, error) {
	var files []*os.File
	for _, ns := range []string{"user", "net"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", s.pid, ns))
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

// startPasta runs pasta, which gets files from descriptor 3 on, and returns when it is ready or has failed.
func (s *Sandbox) startPasta(files []*os.File, options ...string) error {
	dir, err := os.MkdirTemp(tempDir(), "mica-pasta-")
	if err != nil {
		return fmt.Errorf("connect network: %w", err)
	}
	defer os.RemoveAll(dir)
	// pasta writes its process id when it is ready: a pipe by name turns that into a message.
	ready := filepath.Join(dir, "ready")
	if err := unix.Mkfifo(ready, 0o600); err != nil {
		return fmt.Errorf("connect network: %w", err)
	}
	pipe, err := os.OpenFile(ready, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("connect network: %w", err)
	}
	defer pipe.Close()

	args := []string{"-c", guard, "sh", "pasta", "--foreground", "--quiet", "--config-net",
		"--dns-forward", PastaDNS, "--pid", ready, "-T", "none", "-U", "none"}
	if !s.cfg.HostAtGateway {
		args = append(args, "--no-map-gw")
	}
	cmd := exec.Command("/bin/sh", append(args, options...)...)
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a ^C in the terminal is not for it
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	life, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("connect network: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("connect network: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		unix.Kill(-cmd.Process.Pid, unix.SIGKILL) // the guard, which keeps the number of the group in use
		pipe.Close()
		close(ended)
	}()
	go func() {
		<-s.done
		life.Close()
	}()
	var pid [32]byte
	if _, err := pipe.Read(pid[:]); err != nil {
		life.Close()
		<-ended
		return fmt.Errorf("connect network: pasta failed: %s", lastLine(said.String()))
	}
	return nil
}

// tempDir is where to put a file for another program: $TMPDIR if that is of any use, which it need not be here, since the
// caller's working directory was another one.
func tempDir() string {
	dir := os.TempDir()
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() || !filepath.IsAbs(dir) {
		return "/tmp"
	}
	return dir
}

// portArgs are the options for the ports to forward: none, unless listed.
func portArgs(ports []Port) (tcp, udp []string, err error) {
	for _, p := range ports {
		spec := fmt.Sprintf("%d:%d", p.Host, p.Sandbox)
		if p.HostIP != "" {
			spec = p.HostIP + "/" + spec
		}
		switch p.Protocol {
		case "", "tcp":
			tcp = append(tcp, "-t", spec)
		case "udp":
			udp = append(udp, "-u", spec)
		default:
			return nil, nil, fmt.Errorf("forward port %d: protocol %q is neither tcp nor udp", p.Host, p.Protocol)
		}
	}
	if tcp == nil {
		tcp = []string{"-t", "none"}
	}
	if udp == nil {
		udp = []string{"-u", "none"}
	}
	return tcp, udp, nil
}

// lastLine is the last line of a program's output that says something, without the complaint about a missing system log.
func lastLine(out string) string {
	last := "it said nothing"
	for line := range strings.Lines(out) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "Failed to send") {
			last = line
		}
	}
	return last
}
