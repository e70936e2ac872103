package fstest

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// entry is what a snapshot knows of one name.
type entry struct {
	what string // all that must be equal on both sides
	dir  bool
	dev  uint64
	ino  uint64
	// born is when the object was made, 0 if the filesystem does not tell: with
	// ino it is the object's identity on the plain side.
	born int64
	typ  uint32
}

// snapshot is a whole tree by path.
type snapshot map[string]*entry

// depthOf content that a snapshot reads.
type depth int

const (
	statOnly depth = iota
	withXattrs
	withContent
)

// snap reads the tree of a side.
func (s *side) snap(d depth) (snapshot, error) {
	m := snapshot{}
	if err := s.snapDir("", m, d); err != nil {
		return nil, err
	}
	return m, nil
}

func (s *side) snapDir(rel string, m snapshot, d depth) error {
	e, err := s.entry(rel, d)
	if err != nil {
		return err
	}
	m[rel] = e
	if !e.dir {
		return nil
	}
	list, err := listDir(s.abs([]byte(rel)))
	if err == unix.EACCES {
		e.what += " unreadable"
		return nil
	}
	if err != nil {
		return fmt.Errorf("list %q: %w", rel, err)
	}
	names := make([]string, 0, len(list))
	for name := range list {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		child := name
		if rel != "" {
			child = rel + "/" + name
		}
		if err := s.snapDir(child, m, d); err != nil {
			if err == unix.EACCES {
				e.what += " unsearchable"
				return nil
			}
			return err
		}
		c := m[child]
		if got := list[name]; got.typ != c.typ || got.ino != c.ino {
			return fmt.Errorf("listing of %q says inode %d type %d of %q, which has inode %d type %d", rel, got.ino, got.typ, name, c.ino, c.typ)
		}
	}
	return nil
}

func (s *side) entry(rel string, d depth) (*entry, error) {
	path := s.abs([]byte(rel))
	var stx unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &stx); err != nil {
		if err == unix.EACCES {
			return nil, err
		}
		return nil, fmt.Errorf("stat %q: %w", rel, err)
	}
	st := unix.Stat_t{
		Dev: unix.Mkdev(stx.Dev_major, stx.Dev_minor), Ino: stx.Ino, Mode: uint32(stx.Mode),
		Uid: stx.Uid, Gid: stx.Gid, Rdev: unix.Mkdev(stx.Rdev_major, stx.Rdev_minor), Size: int64(stx.Size),
		Mtim: unix.Timespec{Sec: stx.Mtime.Sec, Nsec: int64(stx.Mtime.Nsec)},
	}
	setLinks(&st.Nlink, stx.Nlink)
	e := &entry{
		what: s.describe(&st),
		dir:  st.Mode&unix.S_IFMT == unix.S_IFDIR,
		dev:  st.Dev, ino: st.Ino, typ: st.Mode & unix.S_IFMT >> 12,
		born: stx.Btime.Sec*1e9 + int64(stx.Btime.Nsec),
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := os.Readlink(path)
		if err != nil {
			return nil, fmt.Errorf("read link %q: %w", rel, err)
		}
		if int64(len(target)) != st.Size {
			return nil, fmt.Errorf("link %q has size %d and %d bytes of target", rel, st.Size, len(target))
		}
		e.what += fmt.Sprintf(" -> %q", target)
	}
	if d >= withXattrs {
		if err := e.addXattrs(path); err != nil {
			return nil, fmt.Errorf("attributes of %q: %w", rel, err)
		}
	}
	if d >= withContent && st.Mode&unix.S_IFMT == unix.S_IFREG {
		if err := e.addContent(path); err != nil {
			return nil, fmt.Errorf("content of %q: %w", rel, err)
		}
	}
	return e, nil
}

func (e *entry) addXattrs(path string) error {
	names, err := listXattrs(path)
	if err == unix.EOPNOTSUPP {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		buf := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(path, name, buf)
		if err == unix.EACCES {
			n = 0
		} else if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		e.what += fmt.Sprintf(" %s=%s", name, digest(buf[:n]))
	}
	return nil
}

func (e *entry) addContent(path string) error {
	f, err := os.Open(path)
	if err != nil {
		if os.IsPermission(err) {
			e.what += " unreadable"
			return nil
		}
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	e.what += " " + digest(b)
	return nil
}

// listDir reads a whole directory.
type listed struct {
	ino uint64
	typ uint32
}

func listDir(path string) (map[string]listed, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	m := map[string]listed{}
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return m, nil
		}
		for b := buf[:n]; len(b) > 0; {
			size := int(b[16]) | int(b[17])<<8
			name, _, _ := strings.Cut(string(b[19:size]), "\x00")
			if name != "." && name != ".." {
				if _, twice := m[name]; twice {
					return nil, fmt.Errorf("the name %q is listed twice", name)
				}
				ino := uint64(0)
				for i := 7; i >= 0; i-- {
					ino = ino<<8 | uint64(b[i])
				}
				m[name] = listed{ino, uint32(b[18])}
			}
			b = b[size:]
		}
	}
}

// setLinks sets a count of links, which is wider on some architectures.
func setLinks[T uint32 | uint64](to *T, n uint32) { *to = T(n) }
