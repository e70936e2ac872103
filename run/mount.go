package run

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"mica/fs"
	"mica/layerstore"
	"mica/run/mountserver"
	"mica/run/record"
	"mica/run/tree"
)

// MountOptions say what to mount for inspection, and where.
type MountOptions struct {
	Ref  string // of a container or an image
	Dir  string // empty: a directory named for Ref
	RW   bool   // let changes in; of an image, into a new container
	Name string // of that container
}

// Mount mounts the tree of an image or container where its owner can look at
// it with any program: whatever modes and owners the image has inside, they
// are shown and not enforced. A server in the background keeps it up until
// Unmount.
func (e *Engine) Mount(ctx context.Context, opt MountOptions) (*mountserver.Mount, error) {
	live, err := e.Mounts() // takes away stale ones
	if err != nil {
		return nil, err
	}
	job, made, err := e.mountJob(ctx, opt)
	if err != nil {
		return nil, err
	}
	err = job.Launch(opt.Dir, live)
	if job.Lock != nil {
		job.Lock.Release()
	}
	if err != nil && made != nil {
		err = errors.Join(err, e.Remove(context.Background(), made, RemoveOptions{Volumes: true}))
	}
	if err != nil {
		return nil, err
	}
	return &job.Mount, nil
}

// mountserver.Job finds what is to be mounted. A container comes before an image of
// the same name. made is the container that changes of an image go into, nil if there is none.
func (e *Engine) mountJob(ctx context.Context, opt MountOptions) (job *mountserver.Job, made *record.Container, err error) {
	job = &mountserver.Job{Mount: mountserver.Mount{Ref: opt.Ref, RW: opt.RW, Since: time.Now().UTC()}, Records: e.mountRecords()}
	c, err := e.Containers.Find(opt.Ref)
	switch {
	case err == nil:
		return job, nil, e.mountContainer(ctx, job, c)
	case !errors.Is(err, record.ErrNotFound):
		return nil, nil, err
	}
	if opt.RW {
		created, err := e.Create(ctx, CreateOptions{Image: opt.Ref, Name: opt.Name, Command: []string{"/bin/sh"}})
		if err != nil {
			return nil, nil, err
		}
		if err := useTree(job, created.Container, created.Lowers); err != nil {
			created.Lock.Release()
			return nil, nil, errors.Join(err, e.Remove(ctx, created.Container, RemoveOptions{Volumes: true}))
		}
		job.Lock = created.Lock
		return job, created.Container, nil
	}
	img, lowers, err := e.base(ctx, opt.Ref)
	if err != nil {
		if errors.Is(err, layerstore.ErrNotFound) {
			return nil, nil, fmt.Errorf("no such container or image: %s; see \"mica ps -a\" and \"mica images\"", opt.Ref)
		}
		return nil, nil, err
	}
	job.Lowers = tree.ImageStack(lowers)
	if img == nil || img.OverHost {
		job.Lowers = append(job.Lowers, tree.HostLower())
	}
	return job, nil, nil
}

// mountContainer prepares the mount of a container's tree. To change it, it
// must not run; what runs is shown as it is now.
func (e *Engine) mountContainer(ctx context.Context, job *mountserver.Job, c *record.Container) error {
	lowers, err := e.layersOf(ctx, c)
	if err != nil {
		return err
	}
	if job.RW {
		lock, err := c.Lock()
		if err != nil {
			return fmt.Errorf("mount container %s for writing: %w; stop it first, or use \"mica exec\"", c.Config.Name, err)
		}
		job.Lock = lock
	}
	return useTree(job, c, lowers)
}

// useTree makes a container's tree what is mounted.
func useTree(job *mountserver.Job, c *record.Container, lowers []string) (err error) {
	job.Container, job.ID, job.Dirs = c.Config.Name, c.ID(), c.Path()
	job.Lowers, err = tree.Stack(c, lowers)
	return err
}

// Mounts lists the mounts and takes away those whose server is gone.
func (e *Engine) Mounts() ([]mountserver.Mount, error) { return mountserver.List(e.mountRecords()) }

// mountRecords is where the records of mounts are.
func (e *Engine) mountRecords() string { return filepath.Join(e.root, "mounts") }

// Unmount takes a mount away, by its directory, its image or container, and
// waits until what was changed is safe.
func (e *Engine) Unmount(what string) error {
	list, err := e.Mounts()
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(what)
	if err != nil {
		return fmt.Errorf("find %s: %w", what, err)
	}
	id := ""
	if c, err := e.Containers.Find(what); err == nil {
		id = c.ID()
	}
	found := false
	for _, m := range list {
		if m.Dir != dir && m.Ref != what && (id == "" || m.ID != id) {
			continue
		}
		found = true
		if err := m.Unmount(); err != nil {
			return err
		}
	}
	if found {
		return nil
	}
	if mountserver.IsMounted(dir) { // one whose server has died
		return fs.Unmount(dir)
	}
	return fmt.Errorf("nothing is mounted for %s: see \"mica mount\"", what)
}
