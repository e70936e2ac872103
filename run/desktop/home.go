package desktop

import (
	"path/filepath"
	"slices"

	"mica/run/home"
	"mica/run/mounted"
	"mica/run/record"
	"mica/run/sandbox"
	"mica/run/tree"
)

// setHome puts the home directory at its place. The tree in which directories
// below it can be made is nil where they exist for others too.
func (d *gatherer) setHome() (*tree.Tree, error) {
	mount := sandbox.Mount{Target: d.cfg.HomeDir, NoSuid: true, NoDev: true}
	var t *tree.Tree
	switch {
	case home.IsUnion(d.c.Config):
		var err error
		if t, err = home.Start(d.c); err != nil {
			return nil, err
		}
		d.home = t
		mount.Kind, mount.Server = sandbox.MountFUSE, home.NewServer(t.Union, d.ids)
		d.mounts = append(d.mounts, mount)
	case d.cfg.Home == record.HomeShared:
		mount.Kind, mount.Source = sandbox.MountBind, d.cfg.HomeDir
		d.mounts = append(d.mounts, mount)
	default:
		if err := d.tree.EnsureDir(d.cfg.HomeDir, d.uid, d.gid, 0o700); err != nil {
			return nil, err
		}
		t = d.tree
	}
	d.hideStore()
	if d.cfg.Home == record.HomePrivate {
		return t, nil
	}
	return nil, nil
}

// hideStore covers the store where it lies in the home directory that shows.
func (d *gatherer) hideStore() {
	rel, ok := d.c.StoreBelow(d.cfg.HomeDir)
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
		d.mounts = append(d.mounts, mounted.CoverStore(target))
	}
}
