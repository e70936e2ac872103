package build

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"path"

	"github.com/moby/patternmatcher"
	chmod "github.com/tonistiigi/dchapes-mode"
	"golang.org/x/sys/unix"
)

// look is what COPY and ADD change of what they copy.
type look struct {
	chown, chmod string
	exclude      []string
}

// changer changes an entry of an item as chmod and exclude say, and tells whether it is wanted.
type changer func(it *item, h *tar.Header) (bool, error)

func (l *look) changer() (changer, error) {
	exclude, err := patternmatcher.New(l.exclude)
	if err != nil {
		return nil, fmt.Errorf("--exclude: %w", err)
	}
	var set *chmod.Set
	if l.chmod != "" {
		parsed, err := chmod.Parse(l.chmod)
		if err != nil {
			return nil, fmt.Errorf("--chmod=%s: want a mode as chmod(1) takes it, such as 755 or go-w", l.chmod)
		}
		set = &parsed
	}
	return func(it *item, h *tar.Header) (bool, error) {
		name := h.Name
		if name == "." && !it.isDir {
			name = path.Base(it.source)
		}
		if name != "." {
			if out, err := exclude.MatchesOrParentMatches(name); out || err != nil {
				return false, err
			}
		}
		if set != nil && h.Typeflag != tar.TypeSymlink {
			h.Mode = int64(fileBits(set.Apply(h.FileInfo().Mode())))
		}
		return true, nil
	}, nil
}

// fileBits are the permissions of a mode as the kernel has them.
func fileBits(m fs.FileMode) uint32 {
	bits := uint32(m.Perm())
	for _, f := range []struct {
		mode fs.FileMode
		bit  uint32
	}{{fs.ModeSetuid, unix.S_ISUID}, {fs.ModeSetgid, unix.S_ISGID}, {fs.ModeSticky, unix.S_ISVTX}} {
		if m&f.mode != 0 {
			bits |= f.bit
		}
	}
	return bits
}
