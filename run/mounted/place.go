package mounted

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"mica/internal/sys"
	"mica/run/archive"
	"mica/run/control"
	"mica/run/record"
	"mica/run/sandbox"
	"mica/run/userns"
	"mica/run/volume"
)

// Place is a path of a container that lies in a directory of the host, because a volume or a host path is mounted there.
// Symlinks on the way are followed inside of that directory only: the container may have made them.
type Place struct {
	spot
	ReadOnly bool
	inside   string         // what the container calls it
	volume   *volume.Volume // nil: none is mounted there
	userNS   string         // of the container
}

// spot is a path below a directory of the host.
type spot struct {
	dir  string
	Path string // "." is the directory itself
}

// At is where a path of the container lies on the host, nil for what lies in its own tree (or in memory).
func At(cfg *record.Config, p string) *Place {
	p = path.Clean("/" + p)
	best := Of(cfg, p)
	if best == nil || best.Type == record.MountTmpfs || best.IsUnion() {
		return nil
	}
	dir := source(best)
	h := &Place{
		spot:     spot{dir, path.Join(".", p[len(path.Clean(best.Target)):])},
		ReadOnly: best.ReadOnly, inside: p, userNS: cfg.Host.UserNS,
	}
	if best.Type == record.MountVolume {
		h.volume = Volume(best)
	}
	if fi, err := os.Stat(dir); err == nil && !fi.IsDir() {
		h.dir, h.Path = filepath.Split(dir)
	}
	return h
}

// Of is the mount of the user's in which a path of the container lies, nil if there is none.
func Of(cfg *record.Config, p string) *record.Mount {
	var best *record.Mount
	for i := range cfg.Host.Mounts {
		m := &cfg.Host.Mounts[i]
		if AtOrBelow(p, m.Target) && (best == nil || len(path.Clean(m.Target)) > len(path.Clean(best.Target))) {
			best = m
		}
	}
	return best
}

// AtOrBelow tells whether a clean path of a container is that of a mount's target, or leads through it.
func AtOrBelow(p, target string) bool {
	target = path.Clean(target)
	return p == target || strings.HasPrefix(p, strings.TrimSuffix(target, "/")+"/")
}

// CheckTree tells why what is written at a path of the container's own tree would not be seen there, or cannot be.
func CheckTree(cfg *record.Config, p string) error {
	if Of(cfg, path.Clean("/"+p)) != nil {
		return ErrInMemory(p)
	}
	if cfg.Host.ReadOnly {
		return fmt.Errorf("write %s in the container: its root filesystem is read-only", p)
	}
	return nil
}

// ErrInMemory says that a path lies where only the container itself can write.
func ErrInMemory(p string) error {
	return fmt.Errorf("write %s in the container: it lies on a tmpfs, which is reached only from inside: use mica exec", p)
}

// args are those of a helper for an operation; see Help.
func (h *spot) args(op, name string, flag bool) []string {
	return []string{op, h.dir, h.Path, name, fmt.Sprint(flag)}
}

// run does an operation with the ids that the container uses.
func (h *Place) run(in io.Reader, out io.Writer, op, name string, flag bool) error {
	ids, err := userns.IDs(h.userNS)
	if err != nil {
		return err
	}
	if ids.Helpers {
		err = h.withOwners(func() error { return userns.Run(ids, in, out, h.args(op, name, flag)...) })
	} else {
		err = Help(in, out, h.args(op, name, flag && op != "unpack")) // there is one owner
	}
	if err != nil {
		return fmt.Errorf("open %s in the container, where %s is mounted: %w", h.inside, h.dir, err)
	}
	return nil
}

// withOwners does something while the directories of the volume, if it is one, belong to whom they do in containers.
func (h *Place) withOwners(do func() error) error {
	if h.volume == nil {
		return do()
	}
	hold, err := h.volume.Hold(userns.RunDefault)
	if err != nil {
		return err
	}
	return errors.Join(do(), hold.Release(userns.RunDefault))
}

// Stat describes the place, nil where there is nothing.
func (h *Place) Stat(follow bool) (*control.PathStat, error) {
	var out bytes.Buffer
	if err := h.run(nil, &out, "stat", "", follow); err != nil {
		return nil, err
	}
	var st *control.PathStat
	return st, control.Decode(out.Bytes(), &st)
}

// Pack writes the place and all below it as a tar stream in which it is called name; with the empty name a directory's
// content stands at the top.
func (h *Place) Pack(w io.Writer, name string, follow bool) error {
	return h.run(nil, w, "pack", name, follow)
}

// Unpack unpacks a tar stream into the place, a directory. Without keepOwners all of it belongs to root.
func (h *Place) Unpack(r io.Reader, keepOwners bool) error {
	return h.run(r, nil, "unpack", "", keepOwners)
}

// Holder is the directory in which to unpack, where the place is called by its path: for a single file that is mounted, the
// one that has it.
func (h *Place) Holder() *Place {
	dir := *h
	dir.Path = "."
	return &dir
}

// Fill unpacks a tar stream into something that is mounted, with its owners unless they are all one.
func Fill(r io.Reader, m *record.Mount, ids sandbox.IDMap, oneOwner bool) error {
	h := spot{source(m), "."}
	if oneOwner {
		return h.unpack(r, false)
	}
	return userns.Run(ids, r, nil, h.args("unpack", "", true)...)
}

// Help is the work of a helper (package userns) for a [Place], as args ask for it: stat, pack or unpack.
func Help(in io.Reader, out io.Writer, args []string) error {
	if len(args) != 5 {
		return errors.New("unknown request")
	}
	h := &spot{args[1], args[2]}
	name, flag := args[3], args[4] == "true"
	switch args[0] {
	case "stat":
		st, err := h.stat(flag)
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(st)
	case "pack":
		return h.pack(out, name, flag)
	case "unpack":
		return h.unpack(in, flag)
	}
	return errors.New("unknown request")
}

// open opens the directory that the place is below.
func (h *spot) open() (*os.Root, error) {
	fd, err := sandbox.OpenSource(h.dir)
	if err != nil {
		return nil, err
	}
	defer sys.Close(fd)
	return os.OpenRoot(sys.FdPath(fd))
}

// stat describes the place, nil where there is nothing.
func (h *spot) stat(follow bool) (*control.PathStat, error) {
	root, err := h.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	look := root.Lstat
	if follow {
		look = root.Stat
	}
	fi, err := look(h.Path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st := &control.PathStat{Name: path.Base(h.Path), Size: fi.Size(), Mtime: fi.ModTime().UTC()}
	if raw, ok := fi.Sys().(*syscall.Stat_t); ok {
		st.Mode = raw.Mode
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		st.Target, err = root.Readlink(h.Path)
	}
	return st, err
}

// pack writes the place and all below it as a tar stream in which it is called name; with the empty name a directory's
// content stands at the top.
func (h *spot) pack(w io.Writer, name string, follow bool) error {
	root, err := h.open()
	if err != nil {
		return err
	}
	defer root.Close()
	return archive.PackRoot(w, root, h.Path, name, follow)
}

// archive.Unpack unpacks a tar stream into the place, a directory.
func (h *spot) unpack(r io.Reader, owners bool) error {
	root, err := h.open()
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll(h.Path, 0o755); err != nil {
		return err
	}
	sub, err := root.OpenRoot(h.Path)
	if err != nil {
		return err
	}
	defer sub.Close()
	return archive.Unpack(r, sub, filepath.Join(h.dir, h.Path), owners, true)
}
