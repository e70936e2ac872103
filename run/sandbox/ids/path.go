package ids

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// resolver opens files as a process would: from its root and its working directory. It owns a thread with a root and working
// directory of its own, because to look a path up in another root means to change root.
type resolver struct {
	requests chan lookup
	proc     int // the sandbox's /proc
}

// lookup is a request to open.
type lookup struct {
	tid    int
	dirfd  int
	path   string
	flags  int // O_NOFOLLOW, O_DIRECTORY; O_PATH and O_CLOEXEC are implied
	result chan opened
}

type opened struct {
	fd  int
	err error
}

func newResolver() (*resolver, error) {
	proc, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /proc: %w", err)
	}
	r := &resolver{requests: make(chan lookup), proc: proc}
	ready := make(chan error)
	go r.run(ready)
	return r, <-ready
}

// open opens a path of a process, with the meaning of dirfd and path in openat(2).
func (r *resolver) open(tid, dirfd int, path string, flags int) (int, error) {
	if path == "" {
		// The descriptor itself; see AT_EMPTY_PATH.
		return r.openFD(tid, dirfd)
	}
	l := lookup{tid: tid, dirfd: dirfd, path: r.throughSelf(tid, path), flags: flags, result: make(chan opened, 1)}
	r.requests <- l
	o := <-l.result
	return o.fd, o.err
}

// openFD opens what a descriptor of a process, or AT_FDCWD, stands for.
func (r *resolver) openFD(tid, fd int) (int, error) {
	name := fmt.Sprintf("%d/fd/%d", tid, fd)
	if fd == unix.AT_FDCWD {
		name = fmt.Sprintf("%d/cwd", tid)
	}
	got, err := unix.Openat(r.proc, name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		err = unix.EBADF
	}
	return got, err
}

// throughSelf replaces the names under which a process finds itself in /proc: here they would lead to init.
func (r *resolver) throughSelf(tid int, path string) string {
	own := "/proc/" + strconv.Itoa(tid)
	for _, p := range [][2]string{
		{"/proc/self", own}, {"/proc/thread-self", own}, {"/dev/fd", own + "/fd"}, {"/dev/stdin", own + "/fd/0"},
		{"/dev/stdout", own + "/fd/1"}, {"/dev/stderr", own + "/fd/2"},
	} {
		if rest, ok := strings.CutPrefix(path, p[0]); ok && (rest == "" || rest[0] == '/') {
			return p[1] + rest
		}
	}
	return path
}

// run serves requests on its own thread.
func (r *resolver) run(ready chan<- error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		ready <- fmt.Errorf("separate working directory: %w", err)
		return
	}
	home, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		ready <- fmt.Errorf("open root: %w", err)
		return
	}
	unix.Umask(0)
	close(ready)
	for l := range r.requests {
		fd, err := r.lookup(home, &l)
		l.result <- opened{fd, err}
	}
}

func (r *resolver) lookup(home int, l *lookup) (int, error) {
	root, err := unix.Openat(r.proc, strconv.Itoa(l.tid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, unix.ESRCH
	}
	defer unix.Close(root)
	start := root
	if !strings.HasPrefix(l.path, "/") {
		if start, err = r.openFD(l.tid, l.dirfd); err != nil {
			return -1, err
		}
		defer unix.Close(start)
	}
	same, err := sameFile(root, home)
	if err != nil {
		return -1, err
	}
	if !same {
		if err := changeRoot(root); err != nil {
			return -1, err
		}
		defer changeRoot(home)
	}
	return unix.Openat(start, l.path, l.flags|unix.O_PATH|unix.O_CLOEXEC, 0)
}

func changeRoot(fd int) error {
	if err := unix.Fchdir(fd); err != nil {
		return err
	}
	return unix.Chroot(".")
}

func sameFile(a, b int) (bool, error) {
	var sa, sb unix.Stat_t
	if err := unix.Fstat(a, &sa); err != nil {
		return false, err
	}
	if err := unix.Fstat(b, &sb); err != nil {
		return false, err
	}
	return sa.Dev == sb.Dev && sa.Ino == sb.Ino, nil
}
