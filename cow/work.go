package cow

import (
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/whiteout"
)

// ErrInUse says that another process has the upper directory mounted.
var ErrInUse = errors.New("the upper directory is in use by another mount")

// The directories inside work.
const (
	stagingName = "staging" // objects in the making; emptied at every open
	indexName   = "index"   // copied-up hard links of lower files, by lower inode
	mapsName    = "maps"    // block maps of partly copied files
	// volatileName marks an upper that was used without syncs and not closed.
	volatileName = "volatile"
	// whiteoutName is the device of which whiteouts are links.
	whiteoutName = "whiteout"
)

// workDir is the open work directory.
type workDir struct {
	fd      int // holds the lock
	staging int
	maps    int
	index   *dirRef
	indexed map[uint64]bool // the keys in index; guarded by FS.linkMu
	apart   apartRecords    // guarded by its own lock
	serial  atomic.Uint64
	boot    string // this boot's id
	alone   bool   // the disk makes no links of whiteouts; guarded by FS.tree
}

// minLockWait is how long a lock may outlive the server that has it: a process that it was just starting when it was killed
// has its descriptors, up to execve(2).
const minLockWait = time.Second

// openWork locks and prepares the work directory.
func (f *FS) openWork() error {
	w := &workDir{fd: -1, staging: -1, maps: -1, indexed: make(map[uint64]bool)}
	f.work = w
	fail := func(what string, err error) error {
		return fmt.Errorf("%s in work directory %s: %w", what, f.cfg.Work, err)
	}
	var err error
	if f.cfg.Work == "" {
		return errors.New("open union: an upper directory needs a work directory")
	}
	if w.fd, err = unix.Open(f.cfg.Work, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open work directory %s: %w", f.cfg.Work, err)
	}
	if err := f.checkSameFilesystem(); err != nil {
		return err
	}
	if w.boot, err = f.cfg.machine.bootID(); err != nil {
		return err
	}
	if f.cfg.Observe {
		return f.openIndex(false)
	}
	if err := waitFlock(w.fd, max(f.cfg.LockWait, minLockWait)); err != nil {
		if err == unix.EWOULDBLOCK {
			return fmt.Errorf("open upper directory %s: %w", f.cfg.Upper, ErrInUse)
		}
		return fail("take the lock", err)
	}
	if err := f.checkVolatile(); err != nil {
		return err
	}
	if w.staging, err = makeDir(w.fd, stagingName); err != nil {
		return fail("make "+stagingName, err)
	}
	if err := emptyDir(w.staging); err != nil {
		return fail("empty "+stagingName, err)
	}
	if w.maps, err = makeDir(w.fd, mapsName); err != nil {
		return fail("make "+mapsName, err)
	}
	if err := f.openIndex(true); err != nil {
		return fail("read "+indexName, err)
	}
	if f.style, err = whiteout.Probe(w.staging); err != nil {
		return fail("probe", err)
	}
	var st unix.Statx_t
	w.alone = sys.Stat(w.fd, whiteoutName, &st) == nil && !whiteout.IsDevice(&st) // somebody else's
	return nil
}

// waitFlock takes a lock, and waits for whoever has it as long as wait.
func waitFlock(fd int, wait time.Duration) error {
	const pause = 2 * time.Millisecond
	for deadline := time.Now().Add(wait); ; time.Sleep(pause) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(deadline) {
			return err
		}
	}
}

// checkSameFilesystem refuses an upper and a work directory between which
// nothing can be renamed.
func (f *FS) checkSameFilesystem() error {
	var st unix.Statx_t
	if err := sys.Stat(f.work.fd, "", &st); err != nil {
		return err
	}
	if sys.Dev(&st) != f.upper.dev {
		return fmt.Errorf("work directory %s is not on the filesystem of upper directory %s", f.cfg.Work, f.cfg.Upper)
	}
	return nil
}

// checkVolatile refuses an upper whose last volatile use did not end cleanly,
// and marks one that is to be used so.
func (f *FS) checkVolatile() error {
	if f.usedVolatile() {
		return fmt.Errorf("upper directory %s was used with the volatile option and not unmounted; "+
			"its content may be incomplete: remove it, or remove %s/%s to use it all the same",
			f.cfg.Upper, f.cfg.Work, volatileName)
	}
	if !f.cfg.Volatile {
		return nil
	}
	fd, err := sys.Open(f.work.fd, volatileName, unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("mark work directory %s as volatile: %w", f.cfg.Work, err)
	}
	sys.Close(fd)
	return nil
}

// usedVolatile tells whether the upper was last used without syncs and not
// closed.
func (f *FS) usedVolatile() bool {
	var st unix.Statx_t
	return sys.Stat(f.work.fd, volatileName, &st) == nil
}

// openIndex reads which lower hard links are copied up.
func (f *FS) openIndex(create bool) error {
	var fd int
	var err error
	if create {
		fd, err = makeDir(f.work.fd, indexName)
	} else if fd, err = sys.OpenDir(f.work.fd, indexName); err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	f.work.index = &dirRef{layer: f.upper}
	f.fds.pin(&f.work.index.fd, fd)
	return sys.List(fd, func(name []byte, _ uint8, _ uint64) error {
		if f.work.apart.load(fd, string(name)) {
			return nil
		}
		if key, err := strconv.ParseUint(string(name), 16, 64); err == nil {
			f.work.indexed[key] = true
		}
		return nil
	})
}

// closeWork gives up the lock.
func (f *FS) closeWork() {
	w := f.work
	if w.index != nil {
		f.fds.unpin(&w.index.fd)
	}
	if f.cfg.Volatile && w.fd >= 0 && w.staging >= 0 {
		_ = unix.Unlinkat(w.fd, volatileName, 0)
	}
	sys.Close(w.maps)
	sys.Close(w.staging)
	sys.Close(w.fd)
}

// stageName gives a name that is free in staging.
func (w *workDir) stageName() string {
	return strconv.FormatUint(w.serial.Add(1), 36)
}

// discard removes a staged object and whatever it holds; what cannot be
// removed now goes at the next open.
func (w *workDir) discard(name string) {
	if err := unix.Unlinkat(w.staging, name, 0); err != unix.EISDIR && err != unix.EPERM {
		return
	}
	if unix.Unlinkat(w.staging, name, unix.AT_REMOVEDIR) == unix.ENOTEMPTY {
		if fd, err := sys.OpenDir(w.staging, name); err == nil {
			_ = emptyDir(fd)
			sys.Close(fd)
		}
		_ = unix.Unlinkat(w.staging, name, unix.AT_REMOVEDIR)
	}
}

// makeDir makes a directory if it is not there and opens it. It hands nothing on to what is made in it: that is the union's
// matter, and the user may have given the work directory a default ACL or a group.
func makeDir(dirfd int, name string) (int, error) {
	if err := unix.Mkdirat(dirfd, name, 0o700); err != nil && err != unix.EEXIST {
		return -1, err
	}
	for _, acl := range [...]string{accessACL, defaultACL} {
		if err := sys.Removexattr(dirfd, name, acl); err != nil && err != unix.ENODATA && err != unix.EOPNOTSUPP {
			return -1, err
		}
	}
	if err := ondisk.Chmod(dirfd, name, 0o700); err != nil {
		return -1, err
	}
	return sys.OpenDir(dirfd, name)
}

// emptyDir removes all that is in the directory fd.
func emptyDir(fd int) error {
	type entry struct {
		name string
		dir  bool
	}
	var entries []entry
	err := sys.List(fd, func(name []byte, typ uint8, _ uint64) error {
		entries = append(entries, entry{string(name), typ == unix.DT_DIR || typ == unix.DT_UNKNOWN})
		return nil
	})
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := removeTree(fd, e.name, e.dir); err != nil {
			return err
		}
	}
	return nil
}

// removeTree removes name in dirfd with all below it.
func removeTree(dirfd int, name string, mayBeDir bool) error {
	err := unix.Unlinkat(dirfd, name, 0)
	if !mayBeDir || err != unix.EISDIR && err != unix.EPERM {
		return err
	}
	_ = unix.Fchmodat(dirfd, name, 0o700, 0)
	fd, err := sys.OpenDir(dirfd, name)
	if err != nil {
		return err
	}
	err = emptyDir(fd)
	sys.Close(fd)
	if err != nil {
		return err
	}
	return unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
}
