package ids

import "golang.org/x/sys/unix"

// chmod is chmod(2) and its like where they set the set-gid bit: the kernel takes that from a file of a group that its owner is
// not in, and of such groups it does not know. path and flags are the numbers of arguments, -1: there is none.
func chmod(path, flags int) handler {
	return func(s *Server, c *call) (int64, unix.Errno) {
		creds, original, err := s.table.get(c.tid())
		if err != nil || original || creds.can(unix.CAP_FSETID) {
			return 0, pass
		}
		at := stat{dirfd: int(int32(c.args[0]))}
		mode := c.args[1]
		if path >= 0 {
			at.path, mode = c.args[path], c.args[path+1]
		}
		if path == 0 {
			at.dirfd = unix.AT_FDCWD
		}
		if flags >= 0 {
			at.flags = int(int32(c.args[flags]))
		}
		fd, err := at.open(s.resolver, c.tid())
		if err != nil {
			return 0, pass
		}
		defer unix.Close(fd)
		_, gid, ok, err := s.files.Owner(fd)
		if err != nil || !ok || creds.inGroup(gid) || !valid(c.listener, c.notification.id) {
			return 0, pass
		}
		return 0, errno(unix.Chmod(self(fd), uint32(mode)&0o7777&^unix.S_ISGID))
	}
}
