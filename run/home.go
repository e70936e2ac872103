package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"mica/cow"
	"mica/fs"
	"mica/run/record"
	"mica/run/sandbox"
)

// A container that belongs to a desktop has its user's home directory at the
// same path as the machine has it:
//
//	private  a directory in the container's upper, or, over the machine's own root,
//	         a union of an upper alone, since there the real one would show
//	shared   the real one, bind mounted
//	cow      a union of the real one and an upper in the container's directory
//
// The unions keep the ids of the machine, so that changes can go back as they are. What other programs change in
// the real directory meanwhile is seen at the next start at the latest. For that reason their uppers hold
// whole files and trees: neither a half copied file nor a redirect depends on what lies below.

// homeIsUnion tells whether the container's home directory is a mount that its
// supervisor serves.
func homeIsUnion(cfg *record.Config) bool {
	d := cfg.Host.Desktop
	return d != nil && (d.Home == record.HomeCOW || d.Home == record.HomePrivate && cfg.HostBase)
}

// openHome opens the union of a home directory. observe is for reading alone.
func openHome(c *record.Container, observe bool) (*tree, error) {
	if !observe {
		for _, dir := range []string{c.HomeUpper(), c.HomeWork()} {
			if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
				return nil, fmt.Errorf("make the container's home directory: %w", err)
			}
		}
	}
	cfg := homeConfig(c)
	cfg.Observe = observe
	u, err := cow.Open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open the container's home directory: %w", err)
	}
	t := &tree{union: u}
	if len(cfg.Lowers) == 0 && !observe {
		if err := t.ownRoot(); err != nil {
			_ = u.Close()
			return nil, fmt.Errorf("make the container's home directory: %w", err)
		}
	}
	return t, nil
}

// homeConfig describes the union of a home directory.
func homeConfig(c *record.Container) cow.Config {
	cfg := cow.Config{
		Upper: c.HomeUpper(), Work: c.HomeWork(), CopyUp: cow.CopyUpFull, NoRedirect: true, Volatile: c.Config.Host.AutoRemove,
	}
	if d := c.Config.Host.Desktop; d.Home == record.HomeCOW {
		cfg.Lowers = []cow.Lower{{Dir: d.HomeDir, Owners: cow.OwnersReal}}
		if store, inside := pathBelow(filepath.Dir(filepath.Dir(c.Path())), d.HomeDir); inside {
			cfg.Stays = store // a rename would copy it up, into itself
		}
	}
	return cfg
}

// ownRoot makes the calling user the owner of the root.
func (t *tree) ownRoot() error {
	var attr cow.Attr
	if err := t.union.Getattr(t.union.Root(), &attr); err != nil {
		return err
	}
	uid, gid, mode := uint32(os.Getuid()), uint32(os.Getgid()), uint32(0o700)
	if attr.UID == uid && attr.GID == gid {
		return nil
	}
	return t.union.Setattr(t.union.Root(), cow.SetAttr{UID: &uid, GID: &gid, Mode: &mode}, nil)
}

// newHomeServer makes a server of the union of a home directory, whose owners
// are those of the machine.
func newHomeServer(u *cow.FS, ids sandbox.IDMap) *fs.Server {
	return fs.New(u, fs.Options{
		Permissions: true,
		ShowUID:     func(id uint32) uint32 { return idInside(ids.UIDs, id) },
		ShowGID:     func(id uint32) uint32 { return idInside(ids.GIDs, id) },
		StoreUID:    func(id uint32) uint32 { return idOutside(ids.UIDs, id) },
		StoreGID:    func(id uint32) uint32 { return idOutside(ids.GIDs, id) },
	})
}

// overflowID is what the kernel shows for an id that a namespace has not.
const overflowID = 65534

// idInside is what a container calls an id of the machine.
func idInside(ranges []sandbox.IDRange, id uint32) uint32 {
	for _, r := range ranges {
		if id >= r.Outside && id-r.Outside < r.Size {
			return r.Inside + id - r.Outside
		}
	}
	return overflowID
}

// idOutside is the reverse. An id that is emulated has none: its files are the user's.
func idOutside(ranges []sandbox.IDRange, id uint32) uint32 {
	for _, r := range ranges {
		if id >= r.Inside && id-r.Inside < r.Size {
			return r.Outside + id - r.Inside
		}
	}
	return ranges[0].Outside
}

// setHome puts the home directory at its place. The tree in which directories
// below it can be made is nil where they exist for others too.
func (d *desktop) setHome(c *record.Container, store string) (*tree, error) {
	home := d.cfg.HomeDir
	mount := sandbox.Mount{Target: home, NoSuid: true, NoDev: true}
	var t *tree
	switch {
	case homeIsUnion(c.Config):
		var err error
		if t, err = openHome(c, false); err != nil {
			return nil, err
		}
		d.sess.home = t
		if err := noteStart(c); err != nil {
			return nil, fmt.Errorf("note the start: %w", err)
		}
		server := newHomeServer(t.union, d.ids)
		mount.Kind, mount.Serve = sandbox.MountFUSE, server.Serve
		mount.Abandon = func() { server.AbandonWhenIdle(abandonAfter) }
		d.mounts = append(d.mounts, mount)
	case d.cfg.Home == record.HomeShared:
		mount.Kind, mount.Source = sandbox.MountBind, home
		d.mounts = append(d.mounts, mount)
	default:
		if err := d.sess.tree.ensureDir(home, d.uid, d.gid, 0o700); err != nil {
			return nil, err
		}
		t = d.sess.tree
	}
	d.hideStore(store)
	if d.cfg.Home == record.HomePrivate {
		return t, nil
	}
	return nil, nil
}

// hideStore covers the store where it lies in the home directory that shows.
func (d *desktop) hideStore(store string) {
	rel, ok := pathBelow(store, d.cfg.HomeDir)
	if !ok {
		return
	}
	target := filepath.Join(d.cfg.HomeDir, rel)
	if d.cfg.Home == record.HomePrivate {
		// It is not there, and a mount point would be.
		d.box.Mounts = slices.DeleteFunc(d.box.Mounts, func(m sandbox.Mount) bool {
			return m.Target == target && m.Kind == sandbox.MountTmpfs
		})
		return
	}
	if !slices.ContainsFunc(d.box.Mounts, func(m sandbox.Mount) bool { return m.Target == target }) {
		d.mounts = append(d.mounts, storeCover(target))
	}
}

// pathBelow tells whether a path lies in a directory, whatever they are called, and where.
func pathBelow(p, dir string) (string, bool) {
	for _, s := range []*string{&p, &dir} {
		if real, err := filepath.EvalSymlinks(*s); err == nil {
			*s = real
		}
	}
	rel, err := filepath.Rel(dir, p)
	return rel, err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, "../")
}

// ensureDir makes a directory that is missing, with an owner; those above it
// are root's.
func (t *tree) ensureDir(dir string, uid, gid, mode uint32) error {
	fail := func(err error) error { return fmt.Errorf("make directory %s in the container: %w", dir, err) }
	if n, _, err := t.lookup(dir, true); err != unix.ENOENT {
		if err != nil {
			return fail(err)
		}
		t.forget(n)
		return nil
	}
	parent := filepath.Dir(dir)
	if err := t.makeDirs(parent); err != nil {
		return err
	}
	n, _, err := t.lookup(parent, true)
	if err != nil {
		return fail(err)
	}
	defer t.forget(n)
	made, err := t.union.Create(cow.Caller{UID: uid, GID: gid}, n, filepath.Base(dir), cow.NewObject{Mode: unix.S_IFDIR | mode}, nil)
	if err != nil {
		return fail(err)
	}
	t.forget(made)
	return nil
}
