package fs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// MountOptions say how a union appears in the mount table.
type MountOptions struct {
	Source      string // the first field of the mount table
	Subtype     string // shown as fuse.SUBTYPE
	AllowOther  bool
	AllowRoot   bool
	Permissions bool
	Flags       uintptr  // MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC and the like
	Extra       []string // further options that the kernel knows
}

// devFuse is where the kernel takes FUSE servers.
const devFuse = "/dev/fuse"

// Mount mounts on dir and gives the descriptor to serve: by mount(2) where the
// process may, else through fusermount3.
func Mount(dir string, o MountOptions) (*os.File, error) {
	// fusermount3 would mount on a file as well, whose type the root then had.
	if st, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("look at the mountpoint: %w", err)
	} else if !st.IsDir() {
		return nil, fmt.Errorf("mount on %s: %w", dir, unix.ENOTDIR)
	}
	if os.Geteuid() == 0 {
		f, err := mountDirect(dir, o)
		if !errors.Is(err, unix.EPERM) {
			return f, err
		}
	}
	return mountHelper(dir, o)
}

// OpenDevice opens /dev/fuse and says what to do where that fails.
func OpenDevice() (*os.File, error) {
	f, err := os.OpenFile(devFuse, os.O_RDWR, 0)
	switch {
	case err == nil:
		if err := sys.CheckFuseDevice(int(f.Fd())); err != nil {
			f.Close()
			return nil, fmt.Errorf("open %s: %w", devFuse, err)
		}
		return f, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("%w: the kernel has no FUSE here: load it with 'modprobe fuse'", err)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("%w: it is closed to users: let root run 'chmod 666 %s' (udev's rule for it is missing)", err, devFuse)
	}
	return nil, err
}

// mountDirect mounts by mount(2).
func mountDirect(dir string, o MountOptions) (*os.File, error) {
	dev, err := OpenDevice()
	if err != nil {
		return nil, err
	}
	data := []string{
		fmt.Sprintf("fd=%d", dev.Fd()), "rootmode=40000",
		fmt.Sprintf("user_id=%d", os.Geteuid()), fmt.Sprintf("group_id=%d", os.Getegid()),
	}
	data = append(data, o.common()...)
	fstype := "fuse"
	if o.Subtype != "" {
		fstype += "." + o.Subtype
	}
	if err := unix.Mount(o.Source, dir, fstype, o.Flags, strings.Join(data, ",")); err != nil {
		dev.Close()
		return nil, fmt.Errorf("mount on %s: %w", dir, err)
	}
	return dev, nil
}

// common are the options that mount(2) and fusermount3 both take.
func (o MountOptions) common() []string {
	opts := append([]string(nil), o.Extra...)
	if o.Permissions {
		opts = append(opts, "default_permissions")
	}
	if o.AllowOther {
		opts = append(opts, "allow_other")
	}
	return opts
}

// flagNames are the mount flags by the names that fusermount3 takes.
var flagNames = []struct {
	flag uintptr
	name string
}{
	{unix.MS_RDONLY, "ro"}, {unix.MS_NOSUID, "nosuid"}, {unix.MS_NODEV, "nodev"},
	{unix.MS_NOEXEC, "noexec"}, {unix.MS_NOATIME, "noatime"}, {unix.MS_SYNCHRONOUS, "sync"},
}

// mountHelper mounts through fusermount3, which sends the descriptor back.
func mountHelper(dir string, o MountOptions) (*os.File, error) {
	bin, err := exec.LookPath("fusermount3")
	if err != nil {
		return nil, errors.New("mount: fusermount3 is missing: install the package fuse3")
	}
	opts := o.common()
	if o.AllowRoot {
		opts = append(opts, "allow_root")
	}
	for _, f := range flagNames {
		if o.Flags&f.flag != 0 {
			opts = append(opts, f.name)
		}
	}
	if o.Source != "" {
		opts = append(opts, "fsname="+strings.ReplaceAll(o.Source, ",", "\\,"))
	}
	if o.Subtype != "" {
		opts = append(opts, "subtype="+o.Subtype)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("mount on %s: %w", dir, err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "fusermount"), os.NewFile(uintptr(pair[1]), "fusermount")
	defer ours.Close()
	cmd := exec.Command(bin, "-o", strings.Join(opts, ","), "--", dir)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	err = cmd.Run()
	theirs.Close()
	if err != nil {
		if _, derr := OpenDevice(); derr != nil {
			return nil, fmt.Errorf("mount on %s: %w", dir, derr)
		}
		return nil, fmt.Errorf("mount on %s: %s", dir, firstLine(stderr.String(), err))
	}
	return receiveDescriptor(ours)
}

// firstLine is what a helper complained of, or how it failed.
func firstLine(text string, err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if line == "" {
		return err.Error()
	}
	return line
}

// receiveDescriptor takes the one descriptor that was sent over a socket.
func receiveDescriptor(sock *os.File) (*os.File, error) {
	buf, oob := make([]byte, 4), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(sock.Fd()), buf, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("receive the FUSE descriptor: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return nil, errors.New("receive the FUSE descriptor: fusermount3 sent none")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.New("receive the FUSE descriptor: fusermount3 sent none")
	}
	return os.NewFile(uintptr(fds[0]), devFuse), nil
}

// Unmount takes a mount away: by fusermount3, or lazily where the process may.
func Unmount(dir string) error {
	drainMount(dir)
	if os.Geteuid() == 0 {
		if err := unix.Unmount(dir, unix.MNT_DETACH); !errors.Is(err, unix.EPERM) {
			if err != nil {
				return fmt.Errorf("unmount %s: %w", dir, err)
			}
			return nil
		}
	}
	bin, err := exec.LookPath("fusermount3")
	if err != nil {
		return errors.New("unmount: fusermount3 is missing: install the package fuse3")
	}
	var stderr strings.Builder
	cmd := exec.Command(bin, "-u", "-z", "--", dir)
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		hint := ""
		if _, err := os.Stat("/etc/mtab"); errors.Is(err, os.ErrNotExist) {
			hint = `; root mends that with "ln -s ../proc/self/mounts /etc/mtab"`
		}
		return fmt.Errorf("unmount %s: %s%s", dir, firstLine(stderr.String(), err), hint)
	}
	return nil
}
