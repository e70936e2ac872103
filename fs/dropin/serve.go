package dropin

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
)

// readyFD is where a server in the background reports to the command that
// started it: an empty message means that the mount is there.
const readyFD = 3

// serverEnv marks the process that serves in the background.
const serverEnv = "MICA_OVERLAY_READY"

// Run mounts what inv describes and returns when the mount is there, or, in
// the foreground, when it is gone. args are what inv was parsed from.
func Run(inv *Invocation, args []string) error {
	if inv.Foreground {
		return serve(inv, func() {})
	}
	if os.Getenv(serverEnv) == "" {
		return startServer(args)
	}
	report := os.NewFile(readyFD, "ready")
	unix.CloseOnExec(readyFD)
	err := serve(inv, func() { report.Close() })
	if err != nil {
		fmt.Fprint(report, err)
	}
	report.Close()
	return err
}

// startServer starts this program again as a server in a session of its own,
// and waits for its report.
func startServer(args []string) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{"overlay"}, args...)...)
	cmd.Args[0] = "mica"
	cmd.Env = append(os.Environ(), serverEnv+"=1")
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	message, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("wait for the server: %w", err)
	}
	if len(message) > 0 {
		_ = cmd.Wait()
		return errors.New(string(message))
	}
	// An empty report is also what a server that died leaves.
	var ws unix.WaitStatus
	if pid, _ := unix.Wait4(cmd.Process.Pid, &ws, unix.WNOHANG, nil); pid == cmd.Process.Pid && !(ws.Exited() && ws.ExitStatus() == 0) {
		return fmt.Errorf("the server ended before the mount was there (status %#x)", uint32(ws))
	}
	return cmd.Process.Release()
}

// serve mounts and serves until the mount is gone. ready is called once it
// answers.
func serve(inv *Invocation, ready func()) (err error) {
	unix.Umask(0)
	if inv.Catalogs != "" {
		catalogs, err := absolute(inv.Catalogs)
		if err == nil {
			err = cow.KeepCatalogs(catalogs, inv.Union.Lowers)
		}
		if err != nil {
			return fmt.Errorf("option catalogs=%s: %w", inv.Catalogs, err)
		}
	}
	u, err := cow.Open(inv.Union)
	if err != nil {
		return err
	}
	held := make(chan struct{})
	defer func() {
		select {
		case <-held: // requests may be under way still
			err = errors.Join(err, u.Sync())
		default:
			err = errors.Join(err, u.Close())
		}
	}()
	if inv.Debug {
		inv.Serve.Debug = os.Stderr
	}
	mountpoint, err := absolute(inv.Mountpoint)
	if err != nil {
		return err
	}
	if inv.StatsFile != "" {
		if inv.StatsFile, err = absolute(inv.StatsFile); err != nil {
			return err
		}
	}
	dev, err := fs.Mount(mountpoint, inv.Mount)
	if err != nil {
		return err
	}
	s := fs.New(u, inv.Serve)
	s.ProcessesAt("/proc")
	stop := watch(s, inv, mountpoint, held)
	defer stop()
	if !inv.Foreground {
		if err := toBackground(inv.Debug); err != nil {
			return errors.Join(err, fs.Unmount(mountpoint))
		}
	}
	go func() {
		<-s.Ready()
		s.Greet(mountpoint)
		ready()
	}()
	served := make(chan error, 1)
	go func() { served <- s.Serve(dev) }()
	select {
	case <-held:
		return nil
	case err := <-served:
		if err != nil {
			return err
		}
	}
	if inv.StatsFile != "" {
		return s.WriteStats(inv.StatsFile)
	}
	return nil
}

// absolute makes a path independent of the working directory.
func absolute(path string) (string, error) {
	if strings.HasPrefix(path, "/") {
		return path, nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	return wd + "/" + path, nil
}

// watch unmounts on the signals that ask a program to end, and writes
// statistics on SIGUSR1. It closes held if there is nothing to unmount here:
// then a copy of the mount in another mount namespace keeps it up, and only the
// end of the server can end it.
func watch(s *fs.Server, inv *Invocation, mountpoint string, held chan<- struct{}) (stop func()) {
	ch := make(chan os.Signal, 4)
	signal.Notify(ch, unix.SIGINT, unix.SIGTERM, unix.SIGUSR1)
	signal.Ignore(unix.SIGHUP, unix.SIGPIPE)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case sig := <-ch:
				if sig != unix.SIGUSR1 {
					if fs.Unmount(mountpoint) != nil {
						close(held)
						return
					}
				} else if inv.StatsFile != "" {
					_ = s.WriteStats(inv.StatsFile)
				}
			}
		}
	}()
	return func() {
		signal.Stop(ch)
		close(done)
	}
}

// toBackground lets go of the terminal and of the working directory.
func toBackground(keepStderr bool) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("go to the background: %w", err)
	}
	defer null.Close()
	for fd := range 3 {
		if fd == 2 && keepStderr {
			continue
		}
		if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
			return fmt.Errorf("go to the background: %w", err)
		}
	}
	return os.Chdir("/")
}
