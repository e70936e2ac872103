package build

import (
	"context"
	"errors"
	"io"
	"os"

	"mica/run"
	"mica/run/record"
)

// withTree gives fn a container of an image that never runs, with nothing in it but what the image has.
func withTree(ctx context.Context, e *run.Engine, id string, fn func(*record.Container) error) error {
	opt := still()
	opt.Image = id
	c, err := e.Create(ctx, opt)
	if err != nil {
		return err
	}
	c.Lock.Release()
	err = fn(c.Container)
	return errors.Join(err, e.Remove(context.WithoutCancel(ctx), c.Container, run.RemoveOptions{Force: true}))
}

// WriteTo writes the files of an image into a directory of the host, which is made if it is missing.
func WriteTo(ctx context.Context, e *run.Engine, id, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return withTree(ctx, e, id, func(c *record.Container) error { return e.CopyToHost(ctx, c, "/.", dir, run.CopyOptions{}) })
}

// WriteArchive writes the files of an image as a tar stream.
func WriteArchive(ctx context.Context, e *run.Engine, id string, w io.Writer) error {
	return withTree(ctx, e, id, func(c *record.Container) error { return e.Export(ctx, c, w) })
}
