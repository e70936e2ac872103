package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"mica/run/archive"
	"mica/run/control"
	"mica/run/generated"
	"mica/run/mounted"
	"mica/run/record"
	"mica/run/tree"
)

// The operations on a container's filesystem, whether it runs or not. The
// supervisor does them for its own container; see [Engine.withTree].

// withTree runs running with a connection to the supervisor if there is one,
// and stopped with the tree and under the container's lock if there is none.
func (e *Engine) withTree(ctx context.Context, c *record.Container, readOnly bool,
	running func(*control.Conn) error, stopped func(*tree.Tree) error) error {
	var conn *control.Conn
	lock, err := e.lockStopped(ctx, c)
	for err == nil && lock == nil && conn == nil {
		if conn, err = dialAlive(ctx, c); err == nil && conn == nil { // it has just ended
			lock, err = e.lockStopped(ctx, c)
		}
	}
	if err != nil {
		return err
	}
	if conn != nil {
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		return running(conn)
	}
	defer lock.Release()
	lowers, err := e.layersOf(ctx, c)
	if err != nil {
		return err
	}
	t, err := tree.Open(c, lowers, tree.Options{Observe: readOnly})
	if err != nil {
		return err
	}
	err = stopped(t)
	if closeErr := t.Close(); err == nil {
		err = closeErr
	}
	return err
}

// lockStopped takes the lock of a container that does not run, and gives none for one that does. It waits for others who
// look at the container, and while it starts or ends; a mount for writing may stay for ever and is an error.
func (e *Engine) lockStopped(ctx context.Context, c *record.Container) (*record.Lock, error) {
	for {
		if err := c.Refresh(); err != nil {
			return nil, err
		}
		if c.State.Alive() {
			return nil, nil
		}
		lock, err := c.Lock()
		if err == nil {
			// It may have run and ended, or be renamed or removed, since it was read.
			if err := c.Refresh(); err != nil {
				lock.Release()
				return nil, err
			}
			return lock, nil
		}
		if !errors.Is(err, record.ErrLocked) {
			return nil, fmt.Errorf("open container %s: %w", c.Config.Name, err)
		}
		if dir := e.mountedForWriting(c); dir != "" {
			return nil, fmt.Errorf("open container %s: it is mounted for writing on %s; take that away with \"mica umount %s\"", c.Config.Name, dir, dir)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// lockPoll is how often the lock of a container is tried that somebody else holds. To wait in the kernel would not see
// that the holder is a supervisor that has started the container.
const lockPoll = 10 * time.Millisecond

// mountedForWriting is where a container's tree is mounted for writing; empty if nowhere.
func (e *Engine) mountedForWriting(c *record.Container) string {
	mounts, err := e.Mounts()
	if err != nil {
		return ""
	}
	for _, m := range mounts {
		if m.RW && m.ID == c.ID() {
			return m.Dir
		}
	}
	return ""
}

// Diff calls fn for every path that the container has changed.
func (e *Engine) Diff(ctx context.Context, c *record.Container, fn func(control.DiffItem) error) error {
	return e.withTree(ctx, c, true, func(conn *control.Conn) error {
		if err := conn.SendJSON(control.KindRequest, control.Request{Op: control.OpDiff}); err != nil {
			return err
		}
		return conn.Items(func(payload []byte) error {
			var item control.DiffItem
			if err := control.Decode(payload, &item); err != nil {
				return err
			}
			return fn(item)
		})
	}, func(t *tree.Tree) error { return t.Diff(ctx, fn) })
}

// Size is how many bytes the container's own layer holds.
func (e *Engine) Size(ctx context.Context, c *record.Container) (n int64, err error) {
	err = e.withTree(ctx, c, true, func(conn *control.Conn) error {
		var res control.SizeResult
		err := conn.Ask(control.Request{Op: control.OpSize}, &res)
		n = res.Upper
		return err
	}, func(t *tree.Tree) error {
		n, err = t.UpperSize(ctx)
		return err
	})
	return n, err
}

// Stat describes a path in the container, nil where there is none.
func (e *Engine) Stat(ctx context.Context, c *record.Container, p string, follow bool) (st *control.PathStat, err error) {
	if h := mounted.At(c.Config, p); h != nil {
		return h.Stat(follow)
	}
	f, err := generated.At(c.Config, p)
	if err != nil {
		return nil, err
	}
	if f != nil {
		return generated.Stat(c, f), nil
	}
	err = e.withTree(ctx, c, true, func(conn *control.Conn) error {
		return conn.Ask(control.Request{Op: control.OpStat, Path: p, Copy: &control.CopyOptions{FollowLink: follow}}, &st)
	}, func(t *tree.Tree) error {
		st, err = t.Stat(p, follow)
		return err
	})
	return st, err
}

// CopyOut writes a path of the container, with what is mounted there, as a tar stream in which it is called
// name; with the empty name a directory's content stands at the top.
func (e *Engine) CopyOut(ctx context.Context, c *record.Container, p, name string, follow bool, w io.Writer) error {
	files, err := generated.Below(c.Config, p)
	if err != nil {
		return err
	}
	if mounts := mountsBelow(c.Config, p); len(mounts)+len(files) > 0 {
		st, err := e.Stat(ctx, c, p, follow || name == "")
		if err != nil {
			return err
		}
		if st != nil && st.IsDir() {
			return e.copyOutWith(ctx, c, p, name, follow, mounts, files, w)
		}
		if len(files) == 1 {
			return generated.Pack(c, &files[0], name, w)
		}
	}
	return e.copyOut(ctx, c, p, name, follow, w)
}

// copyOut leaves out what is mounted below the path.
func (e *Engine) copyOut(ctx context.Context, c *record.Container, p, name string, follow bool, w io.Writer) error {
	if h := mounted.At(c.Config, p); h != nil {
		return h.Pack(w, name, follow)
	}
	return e.withTree(ctx, c, true, func(conn *control.Conn) error {
		req := control.Request{Op: control.OpCopyOut, Path: p, Copy: &control.CopyOptions{Name: name, FollowLink: follow}}
		if err := conn.SendJSON(control.KindRequest, req); err != nil {
			return err
		}
		_, err := io.Copy(w, &control.StreamReader{Conn: conn})
		return err
	}, func(t *tree.Tree) error { return t.WriteArchive(ctx, w, p, name, follow) })
}

// Export writes the whole tree of the container, without what is mounted in it, as a tar stream.
func (e *Engine) Export(ctx context.Context, c *record.Container, w io.Writer) error {
	return e.copyOut(ctx, c, "/", "", true, w)
}

// CopyIn unpacks a tar stream into a directory of the container. Without
// keepOwners all of it belongs to root.
func (e *Engine) CopyIn(ctx context.Context, c *record.Container, dir string, keepOwners bool, r io.Reader) error {
	src := &archive.NotedReader{Reader: r}
	err := e.copyInAll(ctx, c, dir, keepOwners, src)
	if src.Err != nil {
		return src.Err // what came of it says less
	}
	return err
}

func (e *Engine) copyInAll(ctx context.Context, c *record.Container, dir string, keepOwners bool, r io.Reader) error {
	if mounts := mountsBelow(c.Config, dir); len(mounts) > 0 {
		return e.copyInWith(ctx, c, dir, keepOwners, mounts, r)
	}
	return e.copyIn(ctx, c, dir, keepOwners, r)
}

// copyIn writes below what is mounted below the directory.
func (e *Engine) copyIn(ctx context.Context, c *record.Container, dir string, keepOwners bool, r io.Reader) error {
	if h := mounted.At(c.Config, dir); h != nil {
		if h.ReadOnly {
			return fmt.Errorf("write %s in the container: it lies on a read-only mount", dir)
		}
		return h.Unpack(r, keepOwners)
	}
	if err := mounted.CheckTree(c.Config, dir); err != nil {
		return err
	}
	return e.withTree(ctx, c, false, func(conn *control.Conn) error {
		req := control.Request{Op: control.OpCopyIn, Path: dir, Copy: &control.CopyOptions{Archive: keepOwners}}
		if err := conn.Ask(req, nil); err != nil {
			return err
		}
		noted := &archive.NotedReader{Reader: r}
		_, err := io.Copy(control.StreamWriter{Conn: conn, Kind: control.KindData}, noted)
		if noted.Err != nil {
			return noted.Err // the supervisor gives up when the connection closes
		}
		if err == nil {
			err = conn.Send(control.KindEnd, nil)
		}
		// The supervisor's own error says more than that it stopped reading.
		if answer := conn.Expect(control.KindEnd, nil); answer != nil {
			return answer
		}
		return err
	}, func(t *tree.Tree) error { return t.ReadArchive(r, dir, keepOwners, nil) })
}

// Look opens the tree of a container that does not run, for reading. Until done is called nobody else can use the container.
func (e *Engine) Look(ctx context.Context, c *record.Container) (t *tree.Tree, done func() error, err error) {
	lock, err := e.lockStopped(ctx, c)
	if err == nil && lock == nil {
		err = fmt.Errorf("container %s is running", c.Config.Name)
	}
	if err != nil {
		return nil, nil, err
	}
	lowers, err := e.layersOf(ctx, c)
	if err == nil {
		t, err = tree.Open(c, lowers, tree.Options{Observe: true})
	}
	if err != nil {
		lock.Release()
		return nil, nil, err
	}
	return t, func() error {
		defer lock.Release()
		return t.Close()
	}, nil
}
