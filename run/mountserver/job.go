package mountserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
	"mica/internal/sys"
	"mica/run/record"
)

// Mount is one mount for inspection. It is also its record on disk.
type Mount struct {
	Dir       string    `json:"dir"`
	Ref       string    `json:"ref"`
	Container string    `json:"container,omitempty"` // name that the container had, if it is one's tree
	ID        string    `json:"id,omitempty"`        // of that container
	RW        bool      `json:"rw,omitempty"`
	Made      bool      `json:"made,omitempty"` // mica made Dir and takes it away again
	PID       int       `json:"pid"`            // of the server
	Since     time.Time `json:"since"`
	Start     string    `json:"start,omitempty"` // when the server began, as the kernel counts: another process may get its number
}

// Job is what the server of a mount is told.
type Job struct {
	Mount
	Records string       // directory of the records of mounts, one file each
	Lowers  []cow.Lower  // topmost first
	Dirs    string       // the container's directory; empty: an image
	Lock    *record.Lock `json:"-"` // that the server holds to its end; nil: none
}

// Launch mounts on a directory, by a server in the background. Without one it makes a directory. live are the mounts that
// have a server.
func (job *Job) Launch(dir string, live []Mount) error {
	if err := job.prepareDir(dir, live); err != nil {
		return err
	}
	err := job.start()
	if err != nil && job.Made {
		_ = os.Remove(job.Dir)
	}
	return err
}

// prepareDir checks the mountpoint, or makes one.
func (job *Job) prepareDir(dir string, live []Mount) error {
	if dir == "" {
		runtime, err := runtimeDir()
		if err != nil {
			return fmt.Errorf("make the mountpoint: %w", err)
		}
		name := strings.NewReplacer("/", "_", ":", "_").Replace(job.Ref)
		dir = filepath.Join(runtime, "mnt", name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make the mountpoint: %w", err)
		}
		job.Made = true
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("find the mountpoint: %w", err)
	}
	// A mount whose server has died may still answer from the kernel's cache,
	// so the mount table is asked.
	if IsMounted(dir) {
		for _, m := range live {
			if m.Dir == dir {
				return fmt.Errorf("mount on %s: %s is mounted there: \"mica umount %s\" takes it away", dir, m.Ref, dir)
			}
		}
		if err := fs.Unmount(dir); err != nil {
			return err
		}
	}
	st, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("mount on %s: %w", dir, err)
	}
	if !st.IsDir() {
		return fmt.Errorf("mount on %s: it is no directory", dir)
	}
	job.Dir = dir
	return nil
}

// runtimeDir makes the directory for what need not survive the session. Below
// /tmp anybody could have made it first, with links in it to wherever a mount
// is to appear: it counts only if nobody else can write to it.
func runtimeDir() (string, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("mica-%d", os.Getuid()))
	if own := os.Getenv("XDG_RUNTIME_DIR"); own != "" && unix.Access(own, unix.W_OK) == nil {
		dir = filepath.Join(own, "mica")
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Getuid() || st.Mode&0o022 != 0 {
		return "", fmt.Errorf("%s is not a directory that only you can write to: remove it, set XDG_RUNTIME_DIR, or name a mountpoint", dir)
	}
	return dir, nil
}

// Name is argv[0] of the server of a mount.
const Name = "mica-mount"

// start starts the server and waits until the mount answers.
func (job *Job) start() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("make a socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "server"), os.NewFile(uintptr(fds[1]), "command")
	defer ours.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		theirs.Close()
		return fmt.Errorf("start the mount's server: %w", err)
	}
	defer null.Close()
	files := []*os.File{null, null, null, theirs}
	if job.Lock != nil {
		files = append(files, job.Lock.File())
	}
	p, err := os.StartProcess("/proc/self/exe", []string{Name}, &os.ProcAttr{
		Dir: "/", Files: files, Env: os.Environ(), Sys: &syscall.SysProcAttr{Setsid: true},
	})
	theirs.Close()
	if err != nil {
		return fmt.Errorf("start the mount's server: %w", err)
	}
	job.PID = p.Pid
	_ = p.Release() // it outlives this process
	if err := json.NewEncoder(ours).Encode(job); err != nil {
		return fmt.Errorf("speak to the mount's server: %w", err)
	}
	var reply answer
	if err := json.NewDecoder(ours).Decode(&reply); err != nil {
		return fmt.Errorf("start the mount's server: it ended at once: %w", err)
	}
	if reply.Error != "" {
		return errors.New(reply.Error)
	}
	return nil
}

// answer is what the server says once: an error, or that the mount is there.
type answer struct{ Error string }

// List lists the mounts that have records in a directory, and takes away those whose server is gone.
func List(records string) ([]Mount, error) {
	files, err := filepath.Glob(filepath.Join(records, "*.json"))
	if err != nil {
		return nil, err
	}
	var list []Mount
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // unmounted just now
		}
		var m Mount
		if json.Unmarshal(data, &m) != nil || !m.alive() {
			m.clear(file)
			continue
		}
		list = append(list, m)
	}
	return list, nil
}

// alive tells whether the server still runs.
func (m *Mount) alive() bool {
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", m.PID))
	return err == nil && strings.HasPrefix(string(cmdline), Name) && (m.Start == "" || m.Start == startOf(m.PID))
}

// startOf is when a process began, in ticks since the machine did; see proc_pid_stat(5).
func startOf(pid int) string {
	fields := sys.ProcStat(pid)
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}

// clear takes away what a dead server has left.
func (m *Mount) clear(file string) {
	if m.Dir != "" {
		if IsMounted(m.Dir) {
			_ = fs.Unmount(m.Dir)
		}
		if m.Made {
			_ = os.Remove(m.Dir)
		}
	}
	_ = os.Remove(file)
}

// IsMounted tells whether a mount of mica's is on dir.
func IsMounted(dir string) bool {
	table, _ := sys.Mounts() // without one, none is known of
	return slices.ContainsFunc(table, func(m sys.Mount) bool { return m.Point == dir && m.Type == "fuse.mica" })
}

// Unmount takes the mount away and waits for its server to end.
func (m *Mount) Unmount() error {
	pidfd, err := unix.PidfdOpen(m.PID, 0)
	if err := fs.Unmount(m.Dir); err != nil {
		return err
	}
	if err == nil {
		defer unix.Close(pidfd)
		for {
			_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1)
			if err != unix.EINTR {
				break
			}
		}
	}
	if m.Made {
		_ = os.Remove(m.Dir)
	}
	return nil
}
