package cow

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/internal/sys"
	"mica/whiteout"
)

// upper checks every object below the directory fd of the upper, and path is
// what messages call it.
func (c *checker) upper(fd int, path string) error {
	marked := true
	if c.f.upper.owners == OwnersStored {
		var err error
		if marked, err = ondisk.HasPlaceholders(fd); err != nil {
			return fmt.Errorf("read attributes of %s: %w", path, err)
		}
	}
	type entry struct {
		name string
		dir  bool
	}
	var entries []entry
	err := sys.List(fd, func(raw []byte, _ uint8, _ uint64) error {
		name := string(raw)
		if mark, _ := whiteout.ParseName(name); mark != whiteout.None {
			return nil
		}
		entries = append(entries, entry{name: name})
		return nil
	})
	if err != nil {
		return fmt.Errorf("list %s: %w", path, err)
	}
	for i := range entries {
		e := &entries[i]
		placeholder, isDir, err := c.object(fd, e.name, filepath.Join(path, e.name))
		if err != nil {
			return fmt.Errorf("check %s: %w", filepath.Join(path, e.name), err)
		}
		e.dir = isDir
		if placeholder && !marked {
			marked = true
			dir := c.onDisk(path)
			c.found(path, "listings of it would show a wrong type", func() error {
				return unix.Setxattr(dir, ondisk.PlaceholderXattr, []byte("y"), 0)
			})
		}
	}
	for _, e := range entries {
		if !e.dir {
			continue
		}
		sub, err := sys.OpenDir(fd, e.name)
		if err != nil {
			return fmt.Errorf("open %s: %w", filepath.Join(path, e.name), err)
		}
		err = c.upper(sub, filepath.Join(path, e.name))
		sys.Close(sub)
		if err != nil {
			return err
		}
	}
	return nil
}

// onDisk is the path that a message names.
func (c *checker) onDisk(path string) string {
	return filepath.Join(filepath.Dir(c.f.cfg.Upper), path)
}

// object checks one object of the upper by reading it as a lookup would.
func (c *checker) object(fd int, name, path string) (placeholder, isDir bool, err error) {
	f := c.f
	var st unix.Statx_t
	info, err := f.look(f.upper, fd, name, &st)
	isDir = st.Mode&unix.S_IFMT == unix.S_IFDIR
	if err != nil {
		c.found(path, err.Error(), nil)
		return false, isDir, nil
	}
	if whiteout.IsDevice(&st) {
		return false, false, nil
	}
	if t := uint32(st.Mode) & unix.S_IFMT; t != unix.S_IFREG && t != unix.S_IFDIR {
		c.special[st.Ino] = true
	}
	placeholder = uint32(st.Mode)&unix.S_IFMT != info.meta.Type()
	if info.redirect {
		if _, err := f.followRedirect(fd, name); err != nil {
			c.found(path, err.Error(), nil)
		}
	}
	if !info.origin {
		return placeholder, isDir, nil
	}
	o, err := c.origin(fd, name)
	if err != nil {
		c.badOrigin(path, info.meta, err)
		return placeholder, isDir, nil
	}
	if info.meta.Type() == unix.S_IFLNK {
		c.kept[o.ino] = true
	}
	n := &Node{meta: info.meta, back: place{dir: f.upper.root, name: name}}
	if err := f.readOrigin(n, fd, name, &st); err != nil {
		c.found(path, err.Error(), nil)
	}
	c.forgetContent(n)
	return placeholder, isDir, nil
}

// badOrigin reports a record that says nothing. Of anything but a regular file
// it says the inode number alone, which can be given anew; of a file, which
// content counts.
func (c *checker) badOrigin(path string, m ondisk.Meta, err error) {
	if m.Type() == unix.S_IFREG {
		c.found(path, err.Error(), nil)
		return
	}
	file := c.onDisk(path)
	c.found(path, err.Error(), func() error { return unix.Lremovexattr(file, originXattr) })
}
