package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"strings"
	"time"

	"mica/run"
	"mica/run/account"
	"mica/run/tree"
)

// fill writes the files into a container. sum is the hash of what they were when the step was not found among those of earlier builds.
func (b *builder) fill(ctx context.Context, c *run.Created, s *copyStep, dest string, onlyDir bool, sum string) error {
	f := &filler{ctx: ctx, look: &s.look, sum: newSummer(), now: time.Now(), made: make(map[string]bool)}
	if !b.opt.Created.IsZero() {
		f.now = b.opt.Created
	}
	if err := f.survey(b.e, c, s, dest, onlyDir); err != nil {
		return err
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		f.w = tar.NewWriter(w)
		err := f.write(s.items, sum)
		w.CloseWithError(err)
		done <- err
	}()
	err := b.e.CopyIn(ctx, c.Container, "/", true, r)
	r.CloseWithError(errors.New("the container takes no more"))
	if packErr := <-done; packErr != nil && (err == nil || errors.Is(err, packErr)) {
		return packErr
	}
	return err
}

// filler writes the archive that goes into a container.
type filler struct {
	ctx      context.Context
	look     *look
	sum      *summer
	w        *tar.Writer
	owned    bool // everything belongs to uid and gid
	uid, gid uint32
	now      time.Time
	dest     string
	alone    bool            // it is what the only item becomes, not where items go
	made     map[string]bool // directories that are there, or in the archive already
}

// survey finds out where the files go, what is there, and whose they become. It comes first: while an archive is written into the
// container nobody can look at it.
func (f *filler) survey(e *run.Engine, c *run.Created, s *copyStep, dest string, onlyDir bool) (err error) {
	t, done, err := e.Look(f.ctx, c.Container)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if s.chown != "" {
		if f.uid, f.gid, err = owner(t, s.chown); err != nil {
			return err
		}
		f.owned = true
	}
	dest, there, err := t.Resolve(dest)
	if err != nil {
		return err
	}
	f.dest = dest
	first := &s.items[0]
	intoDir := onlyDir || there != nil && there.IsDir() || first.isDir || strings.Contains(first.name, "/")
	if there != nil && !there.IsDir() && intoDir {
		return noDirectory(dest)
	}
	f.alone = !intoDir
	for _, it := range s.items {
		at := f.place(&it)
		if !it.isDir {
			at = path.Dir(at)
		}
		for _, dir := range append(it.implied, ".") {
			if err := f.lookUp(t, path.Join(at, dir)); err != nil {
				return err
			}
		}
	}
	return nil
}

func noDirectory(p string) error { return fmt.Errorf("%s is in the image, and no directory", p) }

// place is where an item goes.
func (f *filler) place(it *item) string {
	if f.alone {
		return f.dest
	}
	return path.Join(f.dest, it.name)
}

// owner finds the ids of USER[:GROUP], each a name or a number. A number alone is that of the group, too.
func owner(t *tree.Tree, spec string) (uid, gid uint32, err error) {
	if strings.Trim(spec, "0123456789") == "" {
		spec += ":" + spec
	}
	id, err := account.Lookup(t, spec, nil)
	return id.UID, id.GID, err
}

// lookUp notes which of a path and those above it are there. They must be directories.
func (f *filler) lookUp(t *tree.Tree, p string) error {
	for ; p != "/"; p = path.Dir(p) {
		if _, known := f.made[p]; known {
			return nil
		}
		st, err := t.Stat(p, true)
		if err != nil {
			return err
		}
		if st != nil && !st.IsDir() {
			return noDirectory(p)
		}
		f.made[p] = st != nil
	}
	return nil
}

// write writes all of the archive. That ends only if the items are still what they were.
func (f *filler) write(items []item, sum string) error {
	for _, it := range items {
		if err := f.sum.item(&it); err != nil {
			return err
		}
		at := f.place(&it)
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
	if f.sum.String() != sum {
		return errChanged
	}
	return f.w.Close()
}

var errChanged = errors.New("the files have changed while they were copied: build again")

// item writes an item that becomes at.
func (f *filler) item(it *item, at string) error {
	return f.look.pack(f.ctx, it, func(h *tar.Header, content io.Reader) error {
		content, err := f.sum.entry(h, content)
		if err != nil {
			return err
		}
		name := path.Join(at, h.Name)
		if isWay(h) {
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
		if it.archive { // what is unpacked replaces anything, as with Docker, what is copied does not
			h.PAXRecords = maps.Clone(h.PAXRecords)
			if h.PAXRecords == nil {
				h.PAXRecords = make(map[string]string)
			}
			h.PAXRecords[tree.ReplaceRecord] = "yes"
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
