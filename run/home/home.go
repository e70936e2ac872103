// Package home is the home directory of a container that has its user's, at the same path as the machine has it:
//
//	private  a directory in the container's upper, or, over the machine's own root,
//	         a union of an upper alone, since there the real one would show
//	shared   the real one, bind mounted
//	cow      a union of the real one and an upper in the container's directory
//
// The unions keep the ids of the machine, so that changes can go back as they are. What other programs change in
// the real directory meanwhile is seen at the next start at the latest. For that reason their uppers hold
// whole files and trees: neither a half copied file nor a redirect depends on what lies below.
//
// [Diff] shows what a container has changed there, [Apply] writes that to the real directory, and [Discard] forgets it.
package home

import (
	"errors"
	"fmt"
	"os"

	"mica/cow"
	"mica/fs"
	"mica/run/record"
	"mica/run/sandbox"
	"mica/run/tree"
	"mica/run/userns"
)

// IsUnion tells whether the container's home directory is a mount that its
// supervisor serves.
func IsUnion(cfg *record.Config) bool {
	d := cfg.Host.Desktop
	return d != nil && (d.Home == record.HomeCOW || d.Home == record.HomePrivate && cfg.HostBase)
}

// openUnion opens the union of a home directory. observe is for reading alone.
func openUnion(c *record.Container, observe bool) (*tree.Tree, error) {
	if !observe {
		for _, dir := range []string{c.HomeUpper(), c.HomeWork()} {
			if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
				return nil, fmt.Errorf("make the container's home directory: %w", err)
			}
		}
	}
	cfg := Config(c)
	cfg.Observe = observe
	u, err := cow.Open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open the container's home directory: %w", err)
	}
	if len(cfg.Lowers) == 0 && !observe {
		if err := ownRoot(u); err != nil {
			_ = u.Close()
			return nil, fmt.Errorf("make the container's home directory: %w", err)
		}
	}
	return &tree.Tree{Union: u}, nil
}

// Start opens the union of a home directory for a run of the container, which begins now.
func Start(c *record.Container) (*tree.Tree, error) {
	t, err := openUnion(c, false)
	if err != nil {
		return nil, err
	}
	if err := noteStart(c); err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("note the start: %w", err)
	}
	return t, nil
}

// Config describes the union of a home directory.
func Config(c *record.Container) cow.Config {
	cfg := cow.Config{
		Upper: c.HomeUpper(), Work: c.HomeWork(), CopyUp: cow.CopyUpFull, NoRedirect: true, Volatile: c.Config.Volatile(),
	}
	if d := c.Config.Host.Desktop; d.Home == record.HomeCOW {
		cfg.Lowers = []cow.Lower{{Dir: d.HomeDir, Owners: cow.OwnersReal}}
		if store, inside := c.StoreBelow(d.HomeDir); inside {
			cfg.Stays = store // a rename would copy it up, into itself
		}
	}
	return cfg
}

// ownRoot makes the calling user the owner of the root.
func ownRoot(u *cow.FS) error {
	var attr cow.Attr
	if err := u.Getattr(u.Root(), &attr); err != nil {
		return err
	}
	uid, gid, mode := uint32(os.Getuid()), uint32(os.Getgid()), uint32(0o700)
	if attr.UID == uid && attr.GID == gid {
		return nil
	}
	return u.Setattr(u.Root(), cow.SetAttr{UID: &uid, GID: &gid, Mode: &mode}, nil)
}

// NewServer makes a server of the union of a home directory, whose owners
// are those of the machine.
func NewServer(u *cow.FS, ids sandbox.IDMap) *fs.Server {
	return fs.New(u, fs.Options{
		Permissions: true,
		ShowUID:     func(id uint32) uint32 { return userns.Inside(ids.UIDs, id) },
		ShowGID:     func(id uint32) uint32 { return userns.Inside(ids.GIDs, id) },
		StoreUID:    func(id uint32) uint32 { return userns.Outside(ids.UIDs, id) },
		StoreGID:    func(id uint32) uint32 { return userns.Outside(ids.GIDs, id) },
	})
}
