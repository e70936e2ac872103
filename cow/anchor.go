package cow

import (
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// anchor is the union's mountpoint inside one of its own layers. Once the
// union is mounted, that name leads to the mount itself, and to ask for it
// would be to wait for oneself: so the directory is opened before, and reached
// by its descriptor ever after.
type anchor struct {
	ref  *dirRef
	path string // in its layer
}

// findAnchors looks whether the mountpoint lies in a layer. It must be called
// before the mount.
func (f *FS) findAnchors() error {
	if f.cfg.SkipMount == "" {
		return nil
	}
	mountpoint, err := filepath.Abs(f.cfg.SkipMount)
	if err == nil {
		mountpoint, err = filepath.EvalSymlinks(mountpoint)
	}
	if err != nil {
		return nil // whoever mounts there will say what is wrong
	}
	for dir := filepath.Dir(mountpoint); ; dir = filepath.Dir(dir) {
		var st unix.Stat_t
		if err := unix.Stat(dir, &st); err == nil {
			for _, l := range f.layers {
				if l.dev == st.Dev && l.rootIno == st.Ino {
					if err := f.addAnchor(l, strings.TrimPrefix(mountpoint, dir+"/")); err != nil {
						return err
					}
				}
			}
		}
		if dir == "/" {
			return nil
		}
	}
}

// addAnchor opens a directory of a layer for good.
func (f *FS) addAnchor(l *layer, path string) error {
	fd, err := f.use(l.root)
	if err != nil {
		return err
	}
	defer f.done(l.root, fd)
	dir, err := sys.OpenBeneath(fd, path, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil // a symlink or another filesystem on the way: not reached by this path
	}
	parent := l.root
	for head, rest, more := cutSlash(path); ; head, rest, more = cutSlash(rest) {
		ref := parent.sub(f.fds, head)
		if !more {
			ref.anchored = true
			ref.noteDev(dir)
			f.fds.pin(&ref.fd, dir)
			f.anchors = append(f.anchors, anchor{ref, path})
			return nil
		}
		parent = ref
	}
}

// sub refers to the directory name in d.
func (f *FS) sub(d *dirRef, name string) *dirRef {
	if ref := f.anchorOf(d, name); ref != nil {
		return ref
	}
	return d.sub(f.fds, name)
}

// anchorOf gives the reference that must be used for name in d, nil if there
// is nothing special about it.
func (f *FS) anchorOf(d *dirRef, name string) *dirRef {
	for _, a := range f.anchors {
		if d.layer == a.ref.layer && name == a.ref.name && (place{d, name}).path() == a.path {
			return a.ref
		}
	}
	return nil
}

// entryPlace is where the object of an entry is to be looked at.
func (f *FS) entryPlace(ent *dirent) place {
	if ref := f.anchorOf(ent.owner, ent.name); ref != nil {
		return place{ref, ""}
	}
	return place{ent.owner, ent.name}
}
