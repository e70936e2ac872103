package fstest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Program is a FUSE union that a program serves in the foreground with the
// arguments of fuse-overlayfs: Argv, then -f -o OPTIONS MOUNTPOINT.
type Program struct {
	Argv    []string
	Options string // further mount options
	Log     *os.File

	cmd  *exec.Cmd
	dead chan error
}

// Native is false.
func (*Program) Native() bool { return false }

// Mount starts the program and waits for its mount.
func (p *Program) Mount(at Place) error {
	args := append([]string(nil), p.Argv[1:]...)
	args = append(args, "-f", "-o", layerOptions(at)+p.Options, at.Merged)
	p.cmd = exec.Command(p.Argv[0], args...)
	p.cmd.Stdout, p.cmd.Stderr = p.Log, p.Log
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.dead = make(chan error, 1)
	go func(c *exec.Cmd) { p.dead <- c.Wait() }(p.cmd)
	for {
		select {
		case err := <-p.dead:
			return fmt.Errorf("the server ended before it had mounted: %v", err)
		case <-time.After(2 * time.Millisecond):
		}
		var st unix.Statfs_t
		if unix.Statfs(at.Merged, &st) == nil && st.Type == unix.FUSE_SUPER_MAGIC {
			return nil
		}
	}
}

// Unmount unmounts and waits for the program to end.
func (p *Program) Unmount(at Place) error {
	err := detach(at.Merged)
	if err != nil {
		p.cmd.Process.Kill()
		<-p.dead
		unix.Unmount(at.Merged, unix.MNT_DETACH)
		return err
	}
	// All copies are synced first, on a disk that others use. Seconds are counted
	// one by one, so that a machine that stands still for a while does not count.
	for range 120 {
		select {
		case err := <-p.dead:
			if err != nil {
				return fmt.Errorf("the server failed: %w", err)
			}
			return nil
		case <-time.After(time.Second):
		}
	}
	p.cmd.Process.Signal(unix.SIGQUIT)
	<-p.dead
	return errors.New("the server went on for two minutes after the unmount")
}

// Crash kills the program without notice.
func (p *Program) Crash(at Place) error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	<-p.dead
	return detach(at.Merged)
}

// Kernel is the overlayfs of the kernel, with user.overlay attributes.
type Kernel struct{ Options string }

// Native is false.
func (Kernel) Native() bool { return false }

// Mount mounts an overlay.
func (k Kernel) Mount(at Place) error {
	return unix.Mount("overlay", at.Merged, "overlay", 0, "userxattr,"+layerOptions(at)+k.Options)
}

// Unmount unmounts it.
func (Kernel) Unmount(at Place) error { return detach(at.Merged) }

func layerOptions(at Place) string {
	return "lowerdir=" + strings.Join(at.Lowers, ":") + ",upperdir=" + at.Upper + ",workdir=" + at.Work
}

func detach(dir string) error {
	if os.Geteuid() == 0 {
		return unix.Unmount(dir, 0)
	}
	out, err := exec.Command("fusermount3", "-u", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("fusermount3: %w: %s", err, out)
	}
	return nil
}
