package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// While nobody uses a volume its directories belong to the user, who can then delete it, or anything in it, with the
// machine's own tools. Whose they are in the containers is written down in the file "owners" of the volume: for each
// directory "UID MODE PATH" and a zero byte, UID as in a user namespace in which 0 is the user, MODE in octal. What is not
// a directory keeps its owner on disk: to delete it, only its directory matters.
const ownersFile = "owners"

// errForeign ends a search at the first directory that is not wholly the user's.
var errForeign = errors.New("not the user's own")

// foreign tells, to a process of the user, whether a directory of the volume in dir belongs to somebody else or keeps
// the user out.
func foreign(dir string) (bool, error) {
	root, err := os.OpenRoot(filepath.Join(dir, dataDir))
	if errors.Is(err, os.ErrPermission) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer root.Close()
	err = walkDirs(root, ".", func(_ string, st *syscall.Stat_t) error {
		if own(st) {
			return nil
		}
		return errForeign
	})
	if errors.Is(err, errForeign) || errors.Is(err, os.ErrPermission) {
		return true, nil
	}
	return false, err
}

func own(st *syscall.Stat_t) bool { return int(st.Uid) == os.Geteuid() && st.Mode&0o700 == 0o700 }

// Settle gives the directories of the volume in dir to the user, and writes down whose they were. It runs as root of a
// user namespace with the ids of containers.
func Settle(dir string) error {
	root, err := os.OpenRoot(filepath.Join(dir, dataDir))
	if err != nil {
		return err
	}
	defer root.Close()
	var list []owned
	err = walkDirs(root, ".", func(p string, st *syscall.Stat_t) error {
		if !own(st) && len(p) < unix.PathMax { // no call could name it
			list = append(list, owned{p, st.Uid, st.Mode & 0o7777})
		}
		return nil
	})
	if err != nil || len(list) == 0 {
		return err
	}
	if err := writeOwners(dir, list); err != nil {
		return err
	}
	return giveAll(dir, list, func(d *owned) (int, uint32) { return os.Geteuid(), d.mode | 0o700 })
}

// Restore undoes Settle.
func Restore(dir string) error {
	list, err := readOwners(dir)
	if err != nil {
		return err
	}
	if err := giveAll(dir, list, func(d *owned) (int, uint32) { return int(d.uid), d.mode }); err != nil {
		return err
	}
	return os.Remove(filepath.Join(dir, ownersFile))
}

// owned is a directory and whose it is in containers.
type owned struct {
	path      string // below the volume's content
	uid, mode uint32
}

// giveAll changes the owners and modes of directories to what to says of each.
func giveAll(dir string, list []owned, to func(*owned) (uid int, mode uint32)) error {
	data, err := sys.OpenDir(unix.AT_FDCWD, filepath.Join(dir, dataDir))
	if err != nil {
		return err
	}
	defer sys.Close(data)
	for i := range list {
		uid, mode := to(&list[i])
		err = errors.Join(err, list[i].give(data, uid, mode))
	}
	return err
}

// give changes owner and mode. What is not there any more, or is something else now, is left alone.
func (d *owned) give(data int, uid int, mode uint32) error {
	fd, err := sys.OpenBeneath(data, d.path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", d.path, err)
	}
	defer sys.Close(fd)
	if err := unix.Fchown(fd, uid, -1); err != nil {
		return fmt.Errorf("change the owner of %s: %w", d.path, err)
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return fmt.Errorf("change the mode of %s: %w", d.path, err)
	}
	return nil
}

// walkDirs visits a directory and all directories below it.
func walkDirs(root *os.Root, p string, visit func(p string, st *syscall.Stat_t) error) error {
	f, err := root.Open(p)
	if err != nil {
		return err
	}
	fi, err := f.Stat()
	if err == nil {
		err = visit(p, fi.Sys().(*syscall.Stat_t))
	}
	var entries []os.DirEntry
	if err == nil {
		entries, err = f.ReadDir(-1)
	}
	f.Close()
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := walkDirs(root, path.Join(p, e.Name()), visit); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// writeOwners makes the list durable before anything changes.
func writeOwners(dir string, list []owned) error {
	var data bytes.Buffer
	for _, d := range list {
		fmt.Fprintf(&data, "%d %o %s\x00", d.uid, d.mode, d.path)
	}
	stage := filepath.Join(dir, ownersFile+".new")
	f, err := os.OpenFile(stage, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = io.Copy(f, &data); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(stage, filepath.Join(dir, ownersFile))
	}
	if err != nil {
		os.Remove(stage)
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}

func readOwners(dir string) ([]owned, error) {
	data, err := os.ReadFile(filepath.Join(dir, ownersFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []owned
	for len(data) > 0 {
		line, rest, ok := bytes.Cut(data, []byte{0})
		var d owned
		if n, err := fmt.Sscanf(string(line), "%d %o ", &d.uid, &d.mode); !ok || err != nil || n != 2 {
			return nil, fmt.Errorf("%s/%s is damaged: remove it, and set the owners of the volume's directories from a container", dir, ownersFile)
		}
		if fields := bytes.SplitN(line, []byte{' '}, 3); len(fields) == 3 {
			d.path = string(fields[2])
		}
		list, data = append(list, d), rest
	}
	return list, nil
}
