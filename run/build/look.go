package build

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
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

// pack is the item's own, but for what is excluded, and with the modes that are asked for. The directory that an item is, whose
// content goes somewhere, is no entry.
func (l *look) pack(ctx context.Context, it *item, fn entryFunc) error {
	exclude, err := patternmatcher.New(l.exclude)
	if err != nil {
		return fmt.Errorf("--exclude: %w", err)
	}
	var set *chmod.Set
	if l.chmod != "" {
		parsed, err := chmod.Parse(l.chmod)
		if err != nil {
			return fmt.Errorf("--chmod=%s: want a mode as chmod(1) takes it, such as 755 or go-w", l.chmod)
		}
		set = &parsed
	}
	p := &packing{it: it, exclude: exclude, set: set, fn: fn, moved: make(map[string]string)}
	return it.pack(ctx, func(h *tar.Header, content io.Reader) error { return p.entry(ctx, h, content) })
}

// packing is one run of [look.pack].
type packing struct {
	it      *item
	exclude *patternmatcher.PatternMatcher
	set     *chmod.Set
	fn      entryFunc
	moved   map[string]string // of files whose first name is excluded: which name has the content now; empty: none yet
}

func (p *packing) entry(ctx context.Context, h *tar.Header, content io.Reader) error {
	name := h.Name
	if name == "." {
		if h.Typeflag == tar.TypeDir {
			return nil
		}
		name = path.Base(p.it.source)
	}
	out, err := p.exclude.MatchesOrParentMatches(name)
	if err != nil {
		return err
	}
	if out {
		if h.Typeflag != tar.TypeDir && h.Typeflag != tar.TypeLink {
			p.moved[h.Name] = ""
		}
		return nil
	}
	if first, isMoved := p.moved[h.Linkname]; h.Typeflag == tar.TypeLink && isMoved {
		if first == "" {
			p.moved[h.Linkname] = h.Name
			return p.whole(ctx, h.Name)
		}
		h.Linkname = first
	}
	return p.pass(h, content)
}

// whole packs a file by a name that was to be a link to an excluded one.
func (p *packing) whole(ctx context.Context, name string) error {
	if p.it.part == nil {
		return fmt.Errorf("%s is a link to what --exclude leaves out", name)
	}
	return p.it.part(ctx, name, func(h *tar.Header, content io.Reader) error {
		h.Name = name
		return p.pass(h, content)
	})
}

func (p *packing) pass(h *tar.Header, content io.Reader) error {
	if p.set != nil && h.Typeflag != tar.TypeSymlink {
		h.Mode = int64(fileBits(p.set.Apply(h.FileInfo().Mode())))
	}
	return p.fn(h, content)
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
