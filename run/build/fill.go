package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"mica/run"
	"mica/run/control"
	"path"
	"strings"
	"time"
)

// fill writes the files into a container.
func (b *builder) fill(ctx context.Context, c *run.Created, s *copyStep, dest string, onlyDir bool) error {
	f := &filler{b: b, ctx: ctx, c: c, now: time.Now(), made: make(map[string]bool)}
	if !b.opt.Created.IsZero() {
		f.now = b.opt.Created
	}
	var err error
	if f.change, err = s.changer(); err != nil {
		return err
	}
	if s.chown != "" {
		if f.uid, f.gid, err = b.e.Owner(ctx, c.Container, s.chown); err != nil {
			return err
		}
		f.owned = true
	}
	if err := f.survey(s.items, dest, onlyDir); err != nil {
		return err
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		f.w = tar.NewWriter(w)
		err := f.items(s.items)
		if err == nil {
			err = f.w.Close()
		}
		w.CloseWithError(err)
		done <- err
	}()
	err = b.e.CopyIn(ctx, c.Container, "/", true, r)
	r.CloseWithError(errors.New("the container takes no more"))
	if packErr := <-done; packErr != nil && (err == nil || errors.Is(err, packErr)) {
		return packErr
	}
	return err
}

// filler writes the archive that goes into a container.
type filler struct {
	b        *builder
	ctx      context.Context
	c        *run.Created
	w        *tar.Writer
	change   changer
	owned    bool // everything belongs to uid and gid
	uid, gid uint32
	now      time.Time
	dest     string
	made     map[string]bool // directories that are there, or in the archive already
}

// survey finds out where the files go and what is there. It comes first: while an archive is written into the container nobody
// can look at it.
func (f *filler) survey(items []item, dest string, onlyDir bool) error {
	dest, there, err := f.followLinks(dest)
	if err != nil {
		return err
	}
	f.dest = dest
	intoDir := onlyDir || there != nil && there.IsDir() || items[0].isDir || strings.Contains(items[0].name, "/")
	if there != nil && !there.IsDir() && intoDir {
		return fmt.Errorf("%s is in the image, and no directory", dest)
	}
	if !intoDir {
		items[0].name = "."
	}
	for _, it := range items {
		at := path.Join(dest, it.name)
		if err := f.lookUp(at); err != nil {
			return err
		}
		implied, err := it.implied(f.ctx)
		if err != nil {
			return err
		}
		for _, dir := range implied {
			if err := f.lookUp(path.Join(at, dir)); err != nil {
				return err
			}
		}
	}
	return nil
}

// lookUp notes whether a path and those above it are directories.
func (f *filler) lookUp(p string) error {
	for ; p != "/"; p = path.Dir(p) {
		if _, known := f.made[p]; known {
			return nil
		}
		st, err := f.b.e.Stat(f.ctx, f.c.Container, p, true)
		if err != nil {
			return err
		}
		f.made[p] = st != nil && st.IsDir()
	}
	return nil
}

// implied lists the directories that an archive has something in and does not list itself.
func (it *item) implied(ctx context.Context) (dirs []string, err error) {
	if !it.archive {
		return nil, nil
	}
	seen := map[string]bool{".": true}
	err = it.pack(ctx, func(h *tar.Header, _ io.Reader) error {
		for dir := path.Dir(h.Name); !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			dirs = append(dirs, dir)
		}
		seen[h.Name] = seen[h.Name] || h.Typeflag == tar.TypeDir
		return nil
	})
	return dirs, err
}

func (f *filler) items(items []item) error {
	for _, it := range items {
		at := path.Join(f.dest, it.name)
		dir := path.Dir(at)
		if it.isDir {
			dir = at
		}
		if err := f.parents(&it, dir); err != nil {
			return err
		}
		if err := f.item(&it, at); err != nil {
			return err
		}
	}
	return nil
}

// item writes an item that becomes at.
func (f *filler) item(it *item, at string) error {
	return it.pack(f.ctx, func(h *tar.Header, content io.Reader) error {
		want, err := f.change(it, h)
		if !want || err != nil {
			return err
		}
		name := path.Join(at, h.Name)
		if h.Typeflag == tar.TypeDir {
			if h.Name == "." { // it is there by now, and keeps what it is
				return nil
			}
			f.made[name] = true
		}
		if err := f.parents(it, path.Dir(name)); err != nil { // an archive need not list them
			return err
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = relative(path.Join(at, h.Linkname))
		}
		if f.owned {
			h.Uid, h.Gid = int(f.uid), int(f.gid)
		}
		return f.entry(h, name, content)
	})
}

func (f *filler) entry(h *tar.Header, name string, content io.Reader) error {
	h.Name, h.Uname, h.Gname, h.Format = relative(name), "", "", tar.FormatPAX
	if h.ModTime.IsZero() {
		h.ModTime = f.now
	}
	h.AccessTime, h.ChangeTime = time.Time{}, time.Time{}
	if h.Typeflag == tar.TypeDir {
		h.Name += "/"
	}
	if err := f.w.WriteHeader(h); err != nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return nil
	}
	if n, err := io.Copy(f.w, content); err != nil || n != h.Size {
		return errors.Join(err, fmt.Errorf("%s changed while it was read", name))
	}
	return nil
}

// parents makes the directories on the way to something.
func (f *filler) parents(it *item, dir string) error {
	if dir == "/" || f.made[dir] {
		return nil
	}
	if err := f.parents(it, path.Dir(dir)); err != nil {
		return err
	}
	f.made[dir] = true
	h := &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}
	if mode, ok := it.above[relative(strings.TrimPrefix(dir, strings.TrimSuffix(f.dest, "/")))]; ok {
		h.Mode = int64(mode)
	}
	if f.owned {
		h.Uid, h.Gid = int(f.uid), int(f.gid)
	}
	return f.entry(h, dir, nil)
}

// followLinks finds where a path of the container leads that may be a symlink, and what is there, nil for nothing.
func (f *filler) followLinks(p string) (string, *control.PathStat, error) {
	for range 40 { // as many links as the kernel follows
		st, err := f.b.e.Stat(f.ctx, f.c.Container, p, false)
		if err != nil || st == nil || st.Target == "" {
			return p, st, err
		}
		if path.IsAbs(st.Target) {
			p = path.Clean(st.Target)
		} else {
			p = path.Join(path.Dir(p), st.Target)
		}
	}
	return "", nil, fmt.Errorf("%s: too many symlinks", p)
}
