package ids

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/idcall"
)

// Files carries out what the kernel would refuse. Descriptors are O_PATH ones of init, inside of the sandbox.
type Files interface {
	// Owner returns the recorded owner of a file; ok is false for a file that owners are not recorded of.
	Owner(fd int) (uid, gid uint32, ok bool, err error)
	// Chown records the owner of a file and clears set-id bits and capabilities as chown(2) does; an id of 1<<32-1 stays.
	Chown(fd int, uid, gid uint32) error
	// Mknod makes a device node; mode has its type.
	Mknod(dir int, name string, mode uint32, dev, uid, gid uint32) error
}

// rootFiles asks the server of the root, by the attributes of package idcall. Files on other filesystems (volumes, tmpfs,
// devices) keep their owner; a change succeeds without effect where one could be made, because programs that prepare such a
// file for another user would else give up.
type rootFiles struct {
	token string
	dev   uint64 // of the root
}

// RootFiles returns the Files of a sandbox whose root is served with the token.
func RootFiles(token string) (Files, error) {
	var st unix.Stat_t
	if err := unix.Stat("/", &st); err != nil {
		return nil, fmt.Errorf("look at the root: %w", err)
	}
	return &rootFiles{token: token, dev: st.Dev}, nil
}

// inRoot says whether a file lies on the root filesystem.
func (f *rootFiles) inRoot(fd int) (bool, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	return f.token != "" && st.Dev == f.dev, nil
}

func (f *rootFiles) Owner(fd int) (uid, gid uint32, ok bool, err error) {
	if ok, err = f.inRoot(fd); !ok || err != nil {
		return 0, 0, false, err
	}
	var buf [64]byte
	n, err := unix.Getxattr(self(fd), idcall.OwnerName(f.token), buf[:])
	if unsupported(err) {
		return 0, 0, false, nil
	}
	if err == nil {
		uid, gid, err = idcall.ParseOwner(string(buf[:n]))
	}
	return uid, gid, err == nil, err
}

func (f *rootFiles) Chown(fd int, uid, gid uint32) error {
	if err := writable(fd); err != nil {
		return err
	}
	if ok, err := f.inRoot(fd); !ok || err != nil {
		return err
	}
	err := unix.Setxattr(self(fd), idcall.OwnerName(f.token), []byte(idcall.FormatOwner(uid, gid)), 0)
	if unsupported(err) {
		return nil
	}
	return err
}

func (f *rootFiles) Mknod(dir int, name string, mode uint32, dev, uid, gid uint32) error {
	if err := writable(dir); err != nil {
		return err
	}
	ok, err := f.inRoot(dir)
	if err != nil {
		return err
	}
	if !ok {
		return unix.EPERM
	}
	attr := idcall.NodeName(f.token, name, mode, dev, uid, gid)
	if len(attr) > 255 { // XATTR_NAME_MAX
		return f.mknodLong(dir, name, mode, dev, uid, gid)
	}
	var buf [8]byte
	_, err = unix.Getxattr(self(dir), attr, buf[:])
	if unsupported(err) {
		return unix.EPERM
	}
	return err
}

// mknodLong is Mknod for a name that does not fit into a request: the node is made by another one and renamed.
func (f *rootFiles) mknodLong(dir int, name string, mode uint32, dev, uid, gid uint32) error {
	if err := absent(dir, name, nil); err != nil {
		return err
	}
	unique, err := idcall.NewToken()
	if err != nil {
		return err
	}
	short := ".mica-" + unique
	if err := f.Mknod(dir, short, mode, dev, uid, gid); err != nil {
		return err
	}
	err = unix.Renameat2(dir, short, dir, name, unix.RENAME_NOREPLACE)
	if err != nil {
		_ = unix.Unlinkat(dir, short, 0)
	}
	return err
}

// absent is EEXIST for a name that is there, and otherwise for one that is not.
func absent(dir int, name string, otherwise error) error {
	err := unix.Faccessat(dir, name, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == nil:
		return unix.EEXIST
	case errors.Is(err, unix.ENOENT):
		return otherwise
	}
	return err
}

// writable is EROFS for what lies on a read-only mount, of which a filesystem does not know.
func writable(fd int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return unix.EROFS
	}
	return nil
}

// self is a path to an open file that is not looked up by name again.
func self(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// unsupported says whether a server does not know the attributes, as one that is read-only or not ours.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENODATA) || errors.Is(err, unix.ENOSYS)
}

// chownPath is chown(2), lchown(2) and fchownat(2); first is the number of the argument with the path.
func chownPath(first, flags int, at bool) handler {
	return func(s *Server, c *call) (int64, unix.Errno) {
		path, e := readString(c.tid(), c.args[first])
		if e != 0 {
			return 0, e
		}
		dirfd := unix.AT_FDCWD
		flags := flags
		if at {
			dirfd, flags = int(int32(c.args[0])), int(int32(c.args[4]))
		}
		if flags&^(unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH) != 0 {
			return 0, unix.EINVAL
		}
		if path == "" && flags&unix.AT_EMPTY_PATH == 0 {
			return 0, unix.ENOENT
		}
		open := 0
		if flags&unix.AT_SYMLINK_NOFOLLOW != 0 {
			open = unix.O_NOFOLLOW
		}
		fd, err := s.resolver.open(c.tid(), dirfd, path, open)
		if err != nil {
			return 0, errno(err)
		}
		return s.chown(c, fd, c.id(first+1), c.id(first+2))
	}
}

func fchown(s *Server, c *call) (int64, unix.Errno) {
	fd, err := s.resolver.openFD(c.tid(), int(int32(c.args[0])))
	if err != nil {
		return 0, errno(err)
	}
	return s.chown(c, fd, c.id(1), c.id(2))
}

// chown changes the owner of an open file, which it closes, if the caller may.
func (s *Server) chown(c *call, fd int, uid, gid uint32) (int64, unix.Errno) {
	defer unix.Close(fd)
	if !valid(c.listener, c.notification.id) {
		return 0, unix.ESRCH
	}
	creds, err := s.table.Get(c.tid())
	if err != nil {
		return 0, errno(err)
	}
	if !creds.can(unix.CAP_CHOWN) {
		owner, group, ok, err := s.files.Owner(fd)
		if err != nil {
			return 0, errno(err)
		}
		if ok && (owner != creds.FSUID || uid != none && uid != owner || gid != none && gid != group && !creds.inGroup(gid)) {
			return 0, unix.EPERM
		}
	}
	return 0, errno(s.files.Chown(fd, uid, gid))
}

// mknod is mknod(2) and mknodat(2) for devices; first is the number of the argument with the path.
func mknod(first int) handler {
	return func(s *Server, c *call) (int64, unix.Errno) {
		creds, err := s.table.Get(c.tid())
		if err != nil {
			return 0, errno(err)
		}
		if !creds.can(unix.CAP_MKNOD) {
			return 0, unix.EPERM
		}
		path, e := readString(c.tid(), c.args[first])
		if e != 0 {
			return 0, e
		}
		given := path
		path = strings.TrimRight(path, "/")
		if path == "" {
			return 0, unix.EEXIST
		}
		dirfd := unix.AT_FDCWD
		if first == 1 {
			dirfd = int(int32(c.args[0]))
		}
		parent, name := ".", path
		if i := strings.LastIndexByte(path, '/'); i >= 0 {
			parent, name = path[:i+1], path[i+1:]
		}
		if name == "." || name == ".." {
			return 0, unix.EEXIST
		}
		umask, err := s.umask(c.tid())
		if err != nil {
			return 0, errno(err)
		}
		dir, err := s.resolver.open(c.tid(), dirfd, parent, unix.O_DIRECTORY)
		if err != nil {
			return 0, errno(err)
		}
		defer unix.Close(dir)
		if path != given {
			return 0, errno(absent(dir, name, unix.ENOENT)) // it is no directory that is to be made
		}
		if !valid(c.listener, c.notification.id) {
			return 0, unix.ESRCH
		}
		mode := uint32(c.args[first+1])
		return 0, errno(s.files.Mknod(dir, name, mode&^(umask&0o777), uint32(c.args[first+2]), creds.FSUID, creds.FSGID))
	}
}
