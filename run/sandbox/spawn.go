package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// spawn starts a process from the calling thread, which it limits for good; the goroutine is locked to it and must end
// without unlocking. It returns the process id and the master of the terminal (-1 without). fds are the descriptors of
// spec.Stdio. The caller holds mu, so that nobody reaps the process before it is entered.
func (i *initProcess) spawn(spec *wireSpec, fds []int) (pid, tty int, err error) {
	std, tty, err := i.stdio(spec, fds)
	if err != nil {
		return 0, -1, err
	}
	defer closeAll(std.owned)
	defer func() {
		if err != nil && tty >= 0 {
			unix.Close(tty)
		}
	}()
	cwd := spec.Cwd
	if cwd == "" {
		cwd = "/"
	}
	if fi, err := os.Stat(cwd); err != nil {
		return 0, tty, &StartError{127, fmt.Sprintf("change to working directory %q: %v", cwd, errors.Unwrap(err))}
	} else if !fi.IsDir() {
		return 0, tty, &StartError{126, fmt.Sprintf("change to working directory %q: not a directory", cwd)}
	}
	exe, err := lookPath(spec.Args[0], cwd, spec.Env)
	if err != nil {
		return 0, tty, err
	}
	if err := limitThread(spec.Bounding, i.last); err != nil {
		return 0, tty, err
	}
	if spec.NoNewPrivs {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return 0, tty, fmt.Errorf("set no_new_privs: %w", err)
		}
	}
	credential := &syscall.Credential{
		Uid: spec.User.UID, Gid: spec.User.GID, Groups: spec.User.Groups, NoSetGroups: !i.setup.HasGroups || spec.User.KeepGroups,
	}
	if i.emulation != nil {
		done, err := i.emulation.adopt(spec)
		if err != nil {
			return 0, tty, err
		}
		defer done()
		credential = nil
	}
	if err := installFilter(spec.Filter); err != nil {
		return 0, tty, err
	}
	attr := &syscall.ProcAttr{
		Dir: cwd, Env: spec.Env, Files: std.files[:],
		Sys: &syscall.SysProcAttr{
			Setsid: true, Setctty: spec.TTY, Ctty: 0, Credential: credential,
		},
	}
	pid, err = syscall.ForkExec(exe, spec.Args, attr)
	if err != nil {
		code := 126
		if errors.Is(err, unix.ENOENT) {
			code = 127 // the interpreter
		}
		return 0, tty, &StartError{code, fmt.Sprintf("exec %s: %v", exe, err)}
	}
	return pid, tty, nil
}

// stdio is what a process gets as its descriptors 0, 1 and 2.
type stdio struct {
	files [3]uintptr
	owned []int // to close after the start
}

// stdio returns the standard descriptors and, for a terminal, its master (else -1).
func (i *initProcess) stdio(spec *wireSpec, fds []int) (std stdio, master int, err error) {
	if spec.TTY {
		t := i.mainTTY
		i.mainTTY = nil
		if t == nil {
			if t, err = openTTY(i.pts, spec, i.setup.HasGroups); err != nil {
				return std, -1, err
			}
		}
		for n := range std.files {
			std.files[n] = uintptr(t.slave)
		}
		std.owned = []int{t.slave}
		return std, t.master, nil
	}
	for n := range std.files {
		if spec.Stdio>>n&1 == 0 {
			std.files[n] = uintptr(i.null)
			continue
		}
		if len(fds) == 0 {
			return std, -1, errors.New("start process: descriptors are missing")
		}
		std.files[n] = uintptr(fds[0])
		if i.setup.HasGroups {
			giveStream(fds[0], &spec.User)
		}
		fds = fds[1:]
	}
	return std, -1, nil
}

// giveStream makes the user of a process the owner of a pipe or socket, so that it can open /dev/stdout and its like.
// Files and devices keep their owners. A failure shows only in such an open.
func giveStream(fd int, u *User) {
	var st unix.Stat_t
	if u.UID == 0 || unix.Fstat(fd, &st) != nil {
		return
	}
	if t := st.Mode & unix.S_IFMT; t == unix.S_IFIFO || t == unix.S_IFSOCK {
		unix.Fchown(fd, int(u.UID), int(u.GID))
	}
}

// lookPath finds the executable of a command as execvp(3) does, with the PATH of env. The messages are those that people
// know from other runtimes.
func lookPath(name, cwd string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		file := name
		if !path.IsAbs(file) {
			file = cwd + "/" + file // the kernel knows where ".." leads behind a symlink
		}
		if err := isExecutable(file); err != nil {
			code := 126
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
				code = 127
				err = fmt.Errorf("stat %s: %w", name, err)
			}
			return "", &StartError{code, fmt.Sprintf("exec: %q: %v", name, err)}
		}
		return file, nil
	}
	search := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			search = v
		}
	}
	var denied error
	for _, dir := range strings.Split(search, ":") {
		if dir == "" {
			dir = "."
		}
		if !path.IsAbs(dir) {
			dir = cwd + "/" + dir
		}
		file := dir + "/" + name
		switch err := isExecutable(file); {
		case err == nil && name != "":
			return file, nil
		case errors.Is(err, unix.EACCES):
			denied = err
		}
	}
	if denied != nil {
		return "", &StartError{126, fmt.Sprintf("exec: %q: %v", name, denied)}
	}
	return "", &StartError{127, fmt.Sprintf("exec: %q: executable file not found in $PATH", name)}
}

// isExecutable says why a file cannot be executed: ENOENT and its like, EISDIR, EACCES.
func isExecutable(file string) error {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return err
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return unix.EISDIR
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o111 == 0:
		return unix.EACCES
	}
	return nil
}
