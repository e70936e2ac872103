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
	l := lookup{tid: tid, dirfd: dirfd, path: path, flags: flags, result: make(chan opened, 1)}
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
	// Most paths stay on one filesystem: the kernel can be asked for them.
	if !onProc(start) {
		how := unix.OpenHow{Flags: uint64(l.flags) | unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_XDEV}
		if fd, err := unix.Openat2(start, l.path, &how); !errors.Is(err, unix.EXDEV) {
			return fd, err
		}
	}
	return walk(l, root, start)
}

// maxLinks is how many symlinks a path may lead through, as for the kernel.
const maxLinks = 40

// walk looks a path up name by name, from the root that this thread has now. By the symlinks self and thread-self of
// proc(5) the kernel would find init.
func walk(l *lookup, root, start int) (int, error) {
	at, err := duplicate(start)
	if err != nil {
		return -1, err
	}
	directory := false
	rest := strings.TrimLeft(l.path, "/")
	for links := 0; rest != ""; rest = strings.TrimLeft(rest, "/") {
		name, after, more := strings.Cut(rest, "/")
		next, text, err := step(l.tid, at, name, more || l.flags&unix.O_NOFOLLOW == 0)
		switch {
		case err != nil:
		case text == "":
			rest, directory = after, more
		case links == maxLinks:
			err = unix.ELOOP
		default:
			links++
			if rest = text; more {
				rest += "/" + after
			}
			from := at
			if text[0] == '/' {
				from = root
			}
			next, err = duplicate(from)
		}
		unix.Close(at)
		if err != nil {
			return -1, err
		}
		at = next
	}
	if !directory && l.flags&unix.O_DIRECTORY == 0 {
		return at, nil
	}
	defer unix.Close(at)
	return unix.Openat(at, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// step opens a name in a directory, or returns where it leads if it is a symlink to be followed.
func step(tid, dir int, name string, follow bool) (next int, text string, err error) {
	next, err = unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(next, &st)
	}
	if err != nil || !follow || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return next, "", err
	}
	defer unix.Close(next)
	if onProc(next) {
		if name == "self" || name == "thread-self" {
			return -1, strconv.Itoa(tid), nil
		}
		// What has no text that means it, as a descriptor.
		if magic, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS}); err == nil {
			unix.Close(magic)
		} else if errors.Is(err, unix.ELOOP) {
			next, err := unix.Openat(dir, name, unix.O_PATH|unix.O_CLOEXEC, 0)
			return next, "", err
		}
	}
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(next, "", buf[:])
	if err == nil && n == 0 {
		err = unix.ENOENT
	}
	return -1, string(buf[:max(n, 0)]), err
}

func duplicate(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0) }

// onProc says whether a file is one of proc(5).
func onProc(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && st.Type == unix.PROC_SUPER_MAGIC
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
