package fs_test

import (
	"errors"
	"os"
	"testing"

	"mica/cow"
	"mica/internal/fstest"
)

// union lets package fstest drive a mount of a test.
type union struct {
	t    *testing.T
	cfg  cow.Config
	pass bool
	m    *mount
}

func (u *union) Native() bool { return false }

func (u *union) Mount(p fstest.Place) error {
	cfg := u.cfg
	cfg.Upper, cfg.Work, cfg.Lowers = p.Upper, p.Work, nil
	for _, dir := range p.Lowers {
		cfg.Lowers = append(cfg.Lowers, cow.Lower{Dir: dir, Owners: cfg.UpperOwners})
	}
	if cfg.UpperOwners == cow.OwnersStored {
		catalogs := p.Work + "-catalogs"
		if err := os.MkdirAll(catalogs, 0o700); err != nil {
			return err
		}
		if err := cow.KeepCatalogs(catalogs, cfg.Lowers); err != nil {
			return err
		}
	}
	u.m = &mount{t: u.t, dir: p.Merged, cfg: cfg, pass: u.pass}
	u.m.start()
	return nil
}

func (u *union) Unmount(fstest.Place) error {
	u.m.close()
	return nil
}

func (u *union) Crash(fstest.Place) error {
	u.m.kill()
	return nil
}

var unionModes = map[string]cow.Config{
	"blocks": {CopyUp: cow.CopyUpBlocks, UpperOwners: cow.OwnersReal},
	"full":   {CopyUp: cow.CopyUpFull, UpperOwners: cow.OwnersReal, NoRedirect: true},
	"stored": {CopyUp: cow.CopyUpBlocks, UpperOwners: cow.OwnersStored},
}

// fuzzOptions are what a plain user can ask of a union.
func fuzzOptions(mode string) fstest.Options {
	opt := fstest.Options{
		Scene: fstest.SceneOptions{
			MaxLayers: 5,
			IDs:       []uint32{uint32(os.Getuid())},
			Spellings: []fstest.Spelling{fstest.Device, fstest.DotWh, fstest.XattrWh, fstest.FuseOverlayfs, fstest.DotWhLinked},
		},
		Actors:       []fstest.Cred{{}, {}},
		RemountEvery: 150,
		CrashEvery:   300,
		NoCollapse:   true,
		ACLs:         true,
		Stored:       mode == "stored",
	}
	return opt
}

// TestSameAsPlainDirectory does random operations on mica and on a plain
// directory with the same merged tree.
func TestSameAsPlainDirectory(t *testing.T) { sameAsPlainDirectory(t, 3, false) }

// sameAsPlainDirectory does that for some seeds, with passthrough or without.
func sameAsPlainDirectory(t *testing.T, seeds uint64, pass bool) {
	for mode, cfg := range unionModes {
		t.Run(mode, func(t *testing.T) {
			for seed := range seeds {
				opt := fuzzOptions(mode)
				opt.Ops = 500
				report(t, fstest.Run(tempDir(t), &union{t: t, cfg: cfg, pass: pass}, seed, opt))
			}
		})
	}
}

// report says what a run found, cut down if it is a difference.
func report(t *testing.T, err error) {
	t.Helper()
	var fail *fstest.Failure
	if errors.As(err, &fail) {
		t.Errorf("%v%s", fail, fail.Scene)
	} else if err != nil {
		t.Error(err)
	}
}
