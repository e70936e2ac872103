package account

import (
	"bytes"
	"fmt"
	"os"
	"os/user"
	"strings"

	"mica/run/tree"
)

// Add enters the calling user in the container's account files if they
// do not know the id, since programs ask them for name and home. Root is always known.
func Add(t *tree.Tree, uid, gid uint32, home string) error {
	if uid == 0 {
		return nil
	}
	name, gecos := fmt.Sprintf("user%d", uid), ""
	if u, err := user.Current(); err == nil && u.Username != "" && !strings.ContainsAny(u.Username+u.Name, ":\n") {
		name, gecos = u.Username, u.Name
	}
	shell := "/bin/sh"
	if s := os.Getenv("SHELL"); strings.HasPrefix(s, "/") && !strings.ContainsAny(s, ":\n") {
		if st, err := t.Stat(s, true); err == nil && st != nil {
			shell = s
		}
	}
	if strings.ContainsAny(home, ":\n") {
		home = "/"
	}
	err := addRecord(t, "/etc/passwd", name, uid, 7, func(name string) string {
		return fmt.Sprintf("%s:x:%d:%d:%s:%s:%s\n", name, uid, gid, gecos, home, shell)
	})
	if err != nil {
		return err
	}
	return addRecord(t, "/etc/group", name, gid, 4, func(name string) string {
		return fmt.Sprintf("%s:x:%d:\n", name, gid)
	})
}

// addRecord appends a record to an account file that has none with the id.
// A name that is taken gets another end.
func addRecord(t *tree.Tree, file, name string, id uint32, fields int, record func(name string) string) error {
	data, err := t.ReadFile(file)
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
	if err := t.AppendFile(file, []byte(line), int64(len(data))); err != nil {
		return fmt.Errorf("enter user %s in the container's %s: %w", name, file, err)
	}
	return nil
}
