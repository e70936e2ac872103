package run

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/run/record"
)

// addAccount enters the calling user in the container's account files if they
// do not know the id, since programs ask them for name and home. Root is always known.
func (sess *session) addAccount(uid, gid uint32, home string) error {
	if uid == 0 || sess.cfg.HostBase {
		return nil
	}
	name, gecos := fmt.Sprintf("user%d", uid), ""
	if u, err := user.Current(); err == nil && u.Username != "" && !strings.ContainsAny(u.Username+u.Name, ":\n") {
		name, gecos = u.Username, u.Name
	}
	t := sess.tree
	shell := "/bin/sh"
	if s := os.Getenv("SHELL"); strings.HasPrefix(s, "/") && !strings.ContainsAny(s, ":\n") {
		if st, err := t.statPath(s, true); err == nil && st != nil {
			shell = s
		}
	}
	if strings.ContainsAny(home, ":\n") {
		home = "/"
	}
	err := t.addRecord("/etc/passwd", name, uid, 7, func(name string) string {
		return fmt.Sprintf("%s:x:%d:%d:%s:%s:%s\n", name, uid, gid, gecos, home, shell)
	})
	if err != nil {
		return err
	}
	return t.addRecord("/etc/group", name, gid, 4, func(name string) string {
		return fmt.Sprintf("%s:x:%d:\n", name, gid)
	})
}

// homeWithKeptID is the calling user's home directory where the container has
// one of that path, and where a process begins otherwise.
func (sess *session) homeWithKeptID() string {
	if home, err := os.UserHomeDir(); err == nil && path.IsAbs(home) {
		if st, err := sess.tree.statPath(home, true); err == nil && st != nil {
			return home
		}
		if slices.ContainsFunc(sess.cfg.Host.Mounts, func(m record.Mount) bool { return m.Target == path.Clean(home) }) {
			return home
		}
	}
	if dir := sess.cfg.Container.WorkingDir; dir != "" {
		return path.Clean("/" + dir)
	}
	return "/"
}

// addRecord appends a record to an account file that has none with the id.
// A name that is taken gets another end.
func (t *tree) addRecord(file, name string, id uint32, fields int, record func(name string) string) error {
	data, err := t.readFile(file)
	if err != nil {
		return err
	}
	known, taken := false, false
	eachRecord(data, fields, func(f []string) bool {
		n, err := parseID(f[2])
		known = known || err == nil && n == id
		taken = taken || f[0] == name
		return true
	})
	if known {
		return nil
	}
	if taken {
		name += "-host"
	}
	line := record(name)
	if len(data) > 0 && !bytes.HasSuffix(data, []byte("\n")) {
		line = "\n" + line
	}
	if err := t.appendFile(file, []byte(line), int64(len(data))); err != nil {
		return fmt.Errorf("enter user %s in the container's %s: %w", name, file, err)
	}
	return nil
}

// appendFile writes data at the end of a file of the given size, which it makes
// if it is missing.
func (t *tree) appendFile(file string, data []byte, size int64) error {
	n, _, err := t.lookup(file, true)
	if err == unix.ENOENT {
		i := strings.LastIndexByte(file, '/')
		if err := t.makeDirs(file[:i]); err != nil {
			return err
		}
		dir, _, err := t.lookup(file[:i], true)
		if err != nil {
			return err
		}
		n, err = t.union.Create(cow.Caller{}, dir, file[i+1:], cow.NewObject{Mode: unix.S_IFREG | 0o644}, nil)
		t.forget(dir)
		if err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	defer t.forget(n)
	return t.union.Write(n, data, size, false)
}
