package build

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"path"
	"strings"

	"mica/layerstore"
	"mica/run"
	"mica/run/control"
	"mica/run/record"
	"mica/run/tree"
)

// source is a tree that files are copied from. Its paths have no slash in front; "." is the top.
type source interface {
	// find follows symlinks inside the tree and gives the path that they lead to; an error says what is not there.
	find(ctx context.Context, p string) (string, *control.PathStat, error)
	// list describes what is in a directory, sorted by name.
	list(ctx context.Context, dir string) ([]*control.PathStat, error)
	// pack calls fn for what is at p and below, as entries of an archive in which p is called "."; parents come first.
	pack(ctx context.Context, p string, fn entryFunc) error
}

type entryFunc func(h *tar.Header, content io.Reader) error

// source finds what --from names; the empty name is the context.
func (st *stage) source(ctx context.Context, from string) (source, error) {
	b := st.b
	if from == "" {
		if b.opt.Context == nil {
			return nil, errors.New("there is no context to take files from: give a directory instead of the Dockerfile alone")
		}
		return b.opt.Context, nil
	}
	if c, ok := b.context(from); ok && c.Dir != nil {
		return c.Dir, nil
	}
	img, _, err := b.image(ctx, from, st.n)
	if err != nil {
		return nil, err
	}
	return b.tree(ctx, img)
}

// tree gives the tree of an image, for as long as the build lasts.
func (b *builder) tree(ctx context.Context, img *layerstore.Image) (*imageTree, error) {
	if t := b.trees[img.ID]; t != nil {
		return t, nil
	}
	opt := still()
	opt.Image = img.ID
	c, err := b.e.Create(ctx, opt)
	if err != nil {
		return nil, err
	}
	c.Lock.Release()
	t := &imageTree{id: img.ID, c: c.Container}
	if t.tree, t.done, err = b.e.Look(ctx, c.Container); err != nil {
		return nil, errors.Join(err, b.e.Remove(context.WithoutCancel(ctx), c.Container, run.RemoveOptions{Force: true}))
	}
	b.trees[img.ID] = t
	return t, nil
}

// closeTrees gives up the images that files were copied from.
func (b *builder) closeTrees() (err error) {
	for _, t := range b.trees {
		err = errors.Join(err, t.done(), b.e.Remove(context.Background(), t.c, run.RemoveOptions{Force: true}))
	}
	clear(b.trees)
	return err
}

// imageTree is the tree of an image: that of a container that never runs.
type imageTree struct {
	id   string
	c    *record.Container
	tree *tree.Tree
	done func() error
}

func (t *imageTree) find(_ context.Context, p string) (string, *control.PathStat, error) {
	at, st, err := t.tree.Resolve(p)
	if err == nil && st == nil {
		err = notThere(p)
	}
	return relative(at), st, err
}

// notThere is the error of a path at which there is nothing.
type notThere string

func (p notThere) Error() string { return "there is no " + string(p) }

// isNotThere tells whether an error is that there is nothing.
func isNotThere(err error) bool {
	var absent notThere
	return errors.As(err, &absent)
}

// relative is an absolute path without its slash.
func relative(p string) string { return path.Join(".", strings.TrimPrefix(p, "/")) }

func (t *imageTree) list(_ context.Context, dir string) ([]*control.PathStat, error) {
	return t.tree.List(path.Join("/", dir))
}

func (t *imageTree) pack(ctx context.Context, p string, fn entryFunc) error {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(t.tree.WriteArchive(ctx, w, path.Join("/", p), "top", false))
	}()
	err := unpackTop(tar.NewReader(r), fn)
	r.CloseWithError(io.ErrClosedPipe)
	<-done
	return err
}

// unpackTop calls fn for the entries of an archive in which everything is below "top".
func unpackTop(in *tar.Reader, fn entryFunc) error {
	for {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		h.Name = below("top", h.Name)
		if h.Typeflag == tar.TypeLink {
			h.Linkname = below("top", h.Linkname)
		}
		if err := fn(h, in); err != nil {
			return err
		}
	}
}

// below is a path of an archive as seen from a directory of it.
func below(dir, p string) string {
	return path.Join(".", strings.TrimPrefix(path.Clean(p), dir))
}
