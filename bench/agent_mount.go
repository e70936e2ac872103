package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How long a mount may take to appear and a server to go, and how often to look.
const (
	settleTime = 10 * time.Second
	settleStep = 2 * time.Millisecond
)

// mount mounts the peer over the fixture with the scratch directory's upper and work. The lower directories are named
// relative to the fixture, which is the working directory of the command.
func (e *env) mount() error {
	lower := strings.Join(e.fix.layerNames(), ":")
	upper, work := filepath.Join(e.t.Scratch, "u"), filepath.Join(e.t.Scratch, "w")
	if e.t.Peer.Kind == peerKernel {
		if err := os.Chdir(e.fix.dir); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
		data := fmt.Sprintf("userxattr,lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
		err := errors.Join(unix.Mount("overlay", e.root, "overlay", 0, data), os.Chdir("/"))
		if err != nil {
			return fmt.Errorf("mount overlay: %w", err)
		}
		e.mounted = true
		return nil
	}
	argv := e.t.Peer.expand(map[string]string{
		"lower": lower, "upper": upper, "work": work, "dir": e.root, "stats": e.statsFile(), "catalogs": filepath.Join(e.fix.dir, catalogsDir),
	})
	if err := e.runMount(argv); err != nil {
		return err
	}
	e.mounted = true
	e.servers = descendants(os.Getpid())
	return nil
}

// runMount runs a mount command until the tree is mounted. A command may go to the background or stay.
func (e *env) runMount(argv []string) error {
	logName := filepath.Join(e.t.Scratch, "mount.log")
	log, err := os.Create(logName)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = e.fix.dir, log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start mount command: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	deadline := time.After(settleTime)
	tick := time.NewTicker(settleStep)
	defer tick.Stop()
	for {
		select {
		case err = <-done:
			if err == nil {
				if isMounted(e.root) {
					return nil
				}
				err = errors.New("it ended with nothing mounted")
			}
			said, _ := os.ReadFile(logName) // only to explain the error at hand
			err = fmt.Errorf("run mount command %s: %w", filepath.Base(argv[0]), err)
			if words := lastLines(string(said), 2); words != "" {
				err = fmt.Errorf("%w: %s", err, words)
			}
			return err
		case <-tick.C:
			// A command that stays in the foreground is ready when the mount is there; one that goes to the
			// background answers first, because a program that is just about to end is given the time to.
			if isMounted(e.root) {
				select {
				case err = <-done:
					return err
				case <-time.After(20 * settleStep):
					return nil
				}
			}
		case <-deadline:
			return errors.Join(fmt.Errorf("run mount command %s: nothing mounted after %v", filepath.Base(argv[0]), settleTime), cmd.Process.Kill())
		}
	}
}

// isMounted looks in the mount table: a stat could hang on a server that is not ready.
func isMounted(dir string) bool {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	return err == nil && bytes.Contains(raw, []byte(" "+escapeMount(dir)+" "))
}

// escapeMount spells a path as mountinfo does.
func escapeMount(p string) string {
	return strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`).Replace(p)
}

// unmount unmounts, if mounted, and sees the server off.
func (e *env) unmount() error {
	if !e.mounted {
		return nil
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	e.mounted = false
	err := settle("unmount", func() error {
		err := unix.Unmount(e.root, 0)
		if errors.Is(err, unix.EPERM) {
			_, err = output(exec.Command("fusermount3", "-u", e.root))
		}
		return err
	})
	if err != nil {
		return errors.Join(err, unix.Unmount(e.root, unix.MNT_DETACH))
	}
	err = settle("wait for the server to end", func() error {
		for _, pid := range e.servers {
			if alive(pid) {
				return fmt.Errorf("process %d is still there", pid)
			}
		}
		return nil
	})
	for _, pid := range e.servers {
		if alive(pid) {
			err = errors.Join(err, unix.Kill(pid, unix.SIGKILL))
		}
	}
	e.servers = nil
	return err
}

// settle repeats a check until it passes or the time is up.
func settle(what string, check func() error) error {
	deadline := time.Now().Add(settleTime)
	for {
		err := check()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: %w", what, err)
		}
		time.Sleep(settleStep)
	}
}
