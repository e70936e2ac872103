package fstest

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
)

var modeOf = map[Kind]uint32{
	Dir: unix.S_IFDIR, File: unix.S_IFREG, Symlink: unix.S_IFLNK, Fifo: unix.S_IFIFO, Socket: unix.S_IFSOCK,
}

func object(n *Node) ondisk.Object {
	o := ondisk.Object{Target: n.Target, Xattrs: map[string][]byte{}}
	for name, v := range n.Xattrs {
		o.Xattrs[name] = []byte(v)
	}
	o.UID, o.GID, o.Mode = n.UID, n.GID, modeOf[n.Kind]|n.Perm
	return o
}

// writePlaceholder makes what is neither file nor directory in stored form.
func writePlaceholder(path string, n *Node) error {
	dir, err := unix.Open(filepath.Dir(path), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := ondisk.Create(dir, filepath.Base(path), object(n)); err != nil {
		return err
	}
	return setTimes(path, n)
}

// storeMeta gives a file or directory its owner and mode in stored form.
func storeMeta(path string, n *Node) error {
	return ondisk.SetMeta(unix.AT_FDCWD, path, object(n).Meta)
}
