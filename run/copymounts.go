package run

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"mica/run/generated"
	"mica/run/mounted"
	"mica/run/record"
	"mica/run/sandbox"
)

// A copy of a directory of a container takes along what is mounted below it: volumes and paths of the host, each read and
// written where it lies. What is mounted in memory is out of reach: what a copy put there would lie under it, unseen.

// below is a mount below a directory that is copied.
type below struct {
	*mounted.Place        // nil for one in memory
	rel            string // its place, from that directory
}

// mountsBelow lists the mounts below a directory, the nearer ones first.
func mountsBelow(cfg *record.Config, dir string) []below {
	prefix := strings.TrimSuffix(path.Clean("/"+dir), "/") + "/"
	var list []below
	for _, m := range cfg.Host.Mounts {
		at := path.Clean(m.Target)
		if rel, ok := strings.CutPrefix(at, prefix); ok && rel != "" {
			list = append(list, below{mounted.At(cfg, at), rel})
		}
	}
	slices.SortStableFunc(list, func(a, b below) int { return cmp.Compare(strings.Count(a.rel, "/"), strings.Count(b.rel, "/")) })
	return list
}

// copyOutWith is CopyOut of a directory with mounts or generated files below it: one archive after the other, with the end of the last.
func (e *Engine) copyOutWith(ctx context.Context, c *record.Container, p, name string, follow bool, mounts []below, files []sandbox.File, w io.Writer) error {
	joined := &joint{w: w}
	if err := e.copyOut(ctx, c, p, name, follow, joined); err != nil {
		return err
	}
	for _, m := range mounts {
		if m.Place == nil {
			continue
		}
		if err := joined.another(); err != nil {
			return err
		}
		if err := m.Pack(joined, path.Join(name, m.rel), true); err != nil {
			return err
		}
	}
	for _, f := range files {
		if err := joined.another(); err != nil {
			return err
		}
		rel := strings.TrimPrefix(f.Target, strings.TrimSuffix(path.Clean("/"+p), "/"))
		if err := generated.Pack(c, &f, path.Join(name, strings.TrimPrefix(rel, "/")), joined); err != nil {
			return err
		}
	}
	return joined.flush()
}

// archiveEnd is the length of the zeros at the end of an archive that [tar.Writer.Close] writes.
const archiveEnd = 1024

// joint joins archives: it holds back what may be the end of one.
type joint struct {
	w    io.Writer
	held []byte
}

func (j *joint) Write(p []byte) (int, error) {
	j.held = append(j.held, p...)
	if n := len(j.held) - archiveEnd; n > 0 {
		if _, err := j.w.Write(j.held[:n]); err != nil {
			return 0, err
		}
		j.held = append(j.held[:0], j.held[n:]...)
	}
	return len(p), nil
}

// another drops the end of an archive, because another one follows.
func (j *joint) another() error {
	if !bytes.Equal(j.held, make([]byte, archiveEnd)) {
		return errors.New("the archive has no end")
	}
	j.held = j.held[:0]
	return nil
}

func (j *joint) flush() error {
	_, err := j.w.Write(j.held)
	return err
}

// copyInWith is CopyIn into a directory with mounts below it: each gets those entries that lie in it.
func (e *Engine) copyInWith(ctx context.Context, c *record.Container, dir string, keepOwners bool, mounts []below, r io.Reader) (err error) {
	var parts []*part
	defer func() {
		for _, p := range parts {
			err = errors.Join(err, p.end(err))
		}
	}()
	begin := func(to func(r io.Reader) error) *part {
		p := beginPart(to)
		parts = append(parts, p)
		return p
	}
	rest := begin(func(r io.Reader) error { return e.copyIn(ctx, c, dir, keepOwners, r) })
	open := make([]*part, len(mounts))
	for in := tar.NewReader(r); ; {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", err)
		}
		to := rest
		if i, name := within(mounts, h.Name); i >= 0 {
			m := mounts[i]
			switch {
			case m.Place == nil && name == "." && h.Typeflag == tar.TypeDir:
				continue // what is mounted there has a directory of its own
			case m.Place == nil:
				return mounted.ErrInMemory(path.Join(dir, h.Name))
			case m.ReadOnly:
				return fmt.Errorf("write %s in the container: it lies on a read-only mount", path.Join(dir, h.Name))
			}
			if open[i] == nil {
				open[i] = begin(func(r io.Reader) error { return m.Holder().Unpack(r, keepOwners) })
			}
			to, h.Name = open[i], path.Join(m.Path, name)
			if _, target := within(mounts[i:i+1], h.Linkname); h.Typeflag == tar.TypeLink {
				h.Linkname = path.Join(m.Path, target)
			}
		}
		if err := to.entry(h, in); err != nil {
			return err
		}
	}
}

// within finds the innermost mount in which an entry lies, and its name there; -1 is none.
func within(mounts []below, entry string) (int, string) {
	entry = path.Clean(entry)
	for i := len(mounts) - 1; i >= 0; i-- {
		if rel := mounts[i].rel; entry == rel {
			return i, "."
		} else if strings.HasPrefix(entry, rel+"/") {
			return i, entry[len(rel)+1:]
		}
	}
	return -1, ""
}

// part is a part of an archive on its way to where it belongs.
type part struct {
	tar  *tar.Writer
	pipe *io.PipeWriter
	done chan error
}

func beginPart(to func(r io.Reader) error) *part {
	r, w := io.Pipe()
	p := &part{tar: tar.NewWriter(w), pipe: w, done: make(chan error, 1)}
	go func() {
		err := to(r)
		if err == nil {
			_, err = io.Copy(io.Discard, r) // what follows the end of the archive
		}
		r.CloseWithError(cmp.Or(err, io.ErrClosedPipe))
		p.done <- err
	}()
	return p
}

func (p *part) entry(h *tar.Header, content io.Reader) error {
	h.Format = tar.FormatPAX
	err := p.tar.WriteHeader(h)
	if err == nil {
		_, err = io.Copy(p.tar, content)
	}
	return err
}

// end ends the part, early where early tells why, and gives the error of its receiver unless it is the same.
func (p *part) end(early error) error {
	err := early
	if err == nil {
		err = p.tar.Close()
	}
	p.pipe.CloseWithError(err)
	got := <-p.done
	if early != nil && errors.Is(got, early) {
		return nil
	}
	return got
}
