package tree

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"mica/run/control"
)

// Follow follows all symlinks of a path as the kernel would below "/", in whatever tree lstat describes: it gives nil where there is
// nothing. The result is where the path leads and what is there, nil for nothing; the path then goes on from the last
// directory that there is.
func Follow(p string, lstat func(string) (*control.PathStat, error)) (string, *control.PathStat, error) {
	at, rest := "/", splitPath(p)
	var st *control.PathStat // of at; nil: not looked at yet
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at, st = path.Dir(at), nil
			continue
		}
		next := path.Join(at, name)
		found, err := lstat(next)
		if err != nil {
			return "", nil, err
		}
		if found == nil {
			return path.Join(append([]string{next}, rest...)...), nil, nil
		}
		if found.Mode&unix.S_IFMT != unix.S_IFLNK {
			at, st = next, found
			continue
		}
		if links++; links > MaxLinks {
			return "", nil, fmt.Errorf("%s: too many symlinks", p)
		}
		if path.IsAbs(found.Target) {
			at, st = "/", nil
		}
		rest = append(splitPath(found.Target), rest...)
	}
	if st != nil {
		return at, st, nil
	}
	st, err := lstat(at)
	return at, st, err
}
