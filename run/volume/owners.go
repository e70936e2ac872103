package volume

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/atomicfile"
)

// While nobody uses a volume its directories belong to the user, who can then delete it, or anything in it, with the
// machine's own tools. Whose they are in the containers is written down in the file "owners" of the volume: for each
// directory "UID MODE /UP/PATH" and a zero byte, UID as in a user namespace in which 0 is the user, MODE in octal, UP how many
// directories up from the one before, or from the volume's content, PATH leads on. What is not a directory keeps its owner on
// disk: to delete it, only its directory matters.
const ownersFile = "owners"

// errForeign ends a search at the first directory that is not wholly the user's.
var errForeign = errors.New("not the user's own")

// foreign tells, to a process of the user, whether a directory of the volume in dir belongs to somebody else or keeps
// the user out.
func foreign(dir string) (bool, error) {
	w, err := newWalker(dir)
	if errors.Is(err, os.ErrPermission) {
		return true, nil
	}
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return false, nil // the user has put it elsewhere, and left a symlink
	}
	if err != nil {
		return false, err
	}
	defer w.close()
	err = w.walk(func(st *unix.Stat_t) error {
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

func own(st *unix.Stat_t) bool { return int(st.Uid) == os.Geteuid() && st.Mode&0o700 == 0o700 }

// Settle gives the directories of the volume in dir to the user, and writes down whose they were. It runs as root of a
// user namespace with the ids of containers.
func Settle(dir string) error {
	w, err := newWalker(dir)
	if err != nil {
		return err
	}
	defer w.close()
	var list []owned
	err = w.walk(func(st *unix.Stat_t) error {
		if !own(st) {
			up, down := w.mark()
			list = append(list, owned{up, down, st.Uid, st.Mode & 0o7777})
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
	up        int    // from the one before
	down      string // and then on; "." is there
	uid, mode uint32
}

// giveAll changes the owners and modes of directories to what to says of each. What is not there any more, or is something
// else now, is left alone.
func giveAll(dir string, list []owned, to func(*owned) (uid int, mode uint32)) error {
	w, err := newWalker(dir)
	if err != nil {
		return err
	}
	defer w.close()
	var failed error
	missing := 0 // names at the end of the way that were not to be entered
	for i := range list {
		d := &list[i]
		for range d.up {
			if missing > 0 {
				missing--
			} else if err := w.leave(); err != nil {
				return errors.Join(failed, err)
			}
		}
		for name := range strings.SplitSeq(d.down, "/") {
			if name == "." {
				break
			}
			entered := false
			if missing == 0 {
				if entered, err = w.enter(name); err != nil {
					failed = errors.Join(failed, err)
				}
			}
			if !entered {
				missing++
			}
		}
		if missing == 0 {
			uid, mode := to(d)
			failed = errors.Join(failed, w.give(uid, mode))
		}
	}
	return failed
}

// give changes owner and mode of where it stands.
func (w *walker) give(uid int, mode uint32) error {
	if err := unix.Fchown(w.fd, uid, -1); err != nil {
		return w.error("change the owner of", err)
	}
	if err := unix.Fchmod(w.fd, mode); err != nil {
		return w.error("change the mode of", err)
	}
	return nil
}

// writeOwners makes the list durable before anything changes.
func writeOwners(dir string, list []owned) error {
	var data bytes.Buffer
	for _, d := range list {
		fmt.Fprintf(&data, "%d %o /%d/%s\x00", d.uid, d.mode, d.up, d.down)
	}
	return atomicfile.ReplaceDurably(filepath.Join(dir, ownersFile), data.Bytes())
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
	depth := 0
	for len(data) > 0 {
		line, rest, ok := bytes.Cut(data, []byte{0})
		d, err := parseOwned(string(line), depth)
		if depth += namesIn(d.down) - d.up; !ok || err != nil || depth < 0 {
			return nil, fmt.Errorf("%s/%s is damaged: remove it, and set the owners of the volume's directories from a container", dir, ownersFile)
		}
		list, data = append(list, d), rest
	}
	return list, nil
}

// parseOwned reads a line of the list, which comes after a directory at a depth. What was written before there were steps has
// paths from the volume's content.
func parseOwned(line string, depth int) (owned, error) {
	d := owned{up: depth}
	fields := strings.SplitN(line, " ", 3)
	if len(fields) < 3 || fields[2] == "" {
		return d, errors.New("a field is missing")
	}
	if _, err := fmt.Sscanf(line, "%d %o ", &d.uid, &d.mode); err != nil {
		return d, err
	}
	d.down = fields[2]
	relative, ok := strings.CutPrefix(d.down, "/")
	if !ok {
		return d, nil
	}
	up, down, ok := strings.Cut(relative, "/")
	n, err := strconv.ParseUint(up, 10, 31)
	if !ok || down == "" || err != nil || int(n) > depth {
		return d, errors.New("the path is none")
	}
	d.up, d.down = int(n), down
	return d, nil
}

// namesIn is how many directories a path leads down.
func namesIn(down string) int {
	if down == "." {
		return 0
	}
	return strings.Count(down, "/") + 1
}
