package supervise

import (
	"context"
	"os"
	"path/filepath"
	"strconv"

	"mica/cow"
	"mica/fs"
	"mica/internal/sys"
	"mica/run/home"
	"mica/run/mounted"
	"mica/run/record"
	"mica/run/sandbox"
	"mica/run/tree"
)

// Mounts that are unions of their own: the tree of another image, and directories of the host under a layer that takes what is
// written. That layer lasts as long as one run of the container, or until the next one if the supervisor dies.

// serveUnion opens the union of a mount and has the sandbox mount it.
func (sess *session) serveUnion(s *supervisor, m *record.Mount, to *sandbox.Mount) error {
	cfg := cow.Config{CopyUp: cow.CopyUpFull, NoRedirect: true, Volatile: true}
	if m.Type == record.MountImage {
		lowers, err := s.engine.ImageLayers(context.Background(), m.Image)
		if err != nil {
			return err
		}
		cfg.Lowers = tree.ImageStack(lowers)
	} else {
		cfg.Lowers = []cow.Lower{{Dir: m.Source, Owners: cow.OwnersReal}}
		if store, inside := s.c.StoreBelow(m.Source); inside {
			cfg.Stays = store // a rename would copy it up, into itself
		}
	}
	if !m.ReadOnly {
		var err error
		if cfg.Upper, cfg.Work, err = s.scratch(len(sess.unions)); err != nil {
			return err
		}
	}
	u, err := cow.Open(cfg)
	if err != nil {
		return err
	}
	t := &tree.Tree{Union: u, IDs: sess.tree.IDs}
	sess.unions = append(sess.unions, t)
	if m.Type == record.MountImage {
		to.Server = fs.New(u, serverOptions(t))
	} else {
		to.Server = home.NewServer(u, t.IDs)
	}
	to.Kind, to.Subpath = sandbox.MountFUSE, m.Subpath
	to.NoSuid, to.NoDev = true, true
	return nil
}

// coverStore hides the store where it lies in a directory that has a layer over it: what is written to the layer is in the store.
func (s *supervisor) coverStore(list []record.Mount) (covers []sandbox.Mount) {
	for i := range list {
		if rel, inside := s.c.StoreBelow(list[i].Source); inside && list[i].Overlay {
			covers = append(covers, mounted.CoverStore(filepath.Join(list[i].Target, rel)))
		}
	}
	return covers
}

// scratch makes empty directories for what is written to the n-th union.
func (s *supervisor) scratch(n int) (upper, work string, err error) {
	dir := filepath.Join(unionsOf(s.c), strconv.Itoa(n))
	if err := sys.RemoveAll(dir); err != nil { // of a run that lost its supervisor
		return "", "", err
	}
	upper, work = filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return "", "", err
		}
	}
	return upper, work, nil
}

// unionsOf is where a container has what is written to its unions, while it runs.
func unionsOf(c *record.Container) string { return filepath.Join(c.Path(), "unions") }

// closeUnions ends what serveUnion began.
func (sess *session) closeUnions(c *record.Container) {
	if len(sess.unions) == 0 {
		return
	}
	for _, t := range sess.unions {
		_ = t.Close()
	}
	sess.unions = nil
	_ = sys.RemoveAll(unionsOf(c)) // else the next run does it, or the container's end
}
