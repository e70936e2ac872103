package run

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"mica/internal/sys"
	"mica/run/control"
	"mica/run/record"
	"mica/run/sandbox"
	"mica/run/volume"
)

// hostPlace is a path of a container that lies in a directory of the host, because a volume or a host path is mounted there.
// Symlinks on the way are followed inside of that directory only: the container may have made them.
type hostPlace struct {
	dir      string // on the host
	path     string // below it; "." is the directory itself
	inside   string // what the container calls it
	readOnly bool
	volume   *volume.Volume // nil: none is mounted there
}

// mountedAt is where a path of the container lies on the host, nil for what lies in its own tree (or in memory).
func mountedAt(cfg *record.Config, p string) *hostPlace {
	p = path.Clean("/" + p)
	best := mountOf(cfg, p)
	if best == nil || best.Type == record.MountTmpfs {
		return nil
	}
	source := sourceOf(best)
	h := &hostPlace{inside: p, dir: source, path: path.Join(".", p[len(path.Clean(best.Target)):]), readOnly: best.ReadOnly}
	if best.Type == record.MountVolume {
		h.volume = volumeOf(best)
	}
	if fi, err := os.Stat(source); err == nil && !fi.IsDir() {
		h.dir, h.path = filepath.Split(source)
	}
	return h
}

// mountOf is the mount of the user's in which a path of the container lies, nil if there is none.
func mountOf(cfg *record.Config, p string) *record.Mount {
	var best *record.Mount
	for i := range cfg.Host.Mounts {
		m := &cfg.Host.Mounts[i]
		if atOrBelow(p, m.Target) && (best == nil || len(path.Clean(m.Target)) > len(path.Clean(best.Target))) {
			best = m
		}
	}
	return best
}

// atOrBelow tells whether a clean path of a container is that of a mount's target, or leads through it.
func atOrBelow(p, target string) bool {
	target = path.Clean(target)
	return p == target || strings.HasPrefix(p, strings.TrimSuffix(target, "/")+"/")
}

// treeShows tells why what is written at a path of the container's own tree would not be seen there, or cannot be.
func treeShows(cfg *record.Config, p string) error {
	if mountOf(cfg, path.Clean("/"+p)) != nil {
		return errInMemory(p)
	}
	if cfg.Host.ReadOnly {
		return fmt.Errorf("write %s in the container: its root filesystem is read-only", p)
	}
	return nil
}

func errInMemory(p string) error {
	return fmt.Errorf("write %s in the container: it lies on a tmpfs, which is reached only from inside: use mica exec", p)
}

// args are those of a helper for an operation; see hostOp.
func (h *hostPlace) args(op, name string, flag bool) []string {
	return []string{op, h.dir, h.path, name, fmt.Sprint(flag)}
}

// run does an operation with the ids that the container uses.
func (h *hostPlace) run(cfg *record.Config, in io.Reader, out io.Writer, op, name string, flag bool) error {
	ids, err := idMap(cfg.Host.UserNS)
	if err != nil {
		return err
	}
	if ids.Helpers {
		err = h.withOwners(func() error { return inUserNamespace(ids, in, out, h.args(op, name, flag)...) })
	} else {
		err = hostOp(in, out, h.args(op, name, flag && op != "unpack")) // there is one owner
	}
	if err != nil {
		return fmt.Errorf("open %s in the container, where %s is mounted: %w", h.inside, h.dir, err)
	}
	return nil
}

// withOwners does something while the directories of the volume, if it is one, belong to whom they do in containers.
func (h *hostPlace) withOwners(do func() error) error {
	if h.volume == nil {
		return do()
	}
	hold, err := h.volume.Hold(withContainerIDs)
	if err != nil {
		return err
	}
	return errors.Join(do(), hold.Release(withContainerIDs))
}

// runStat describes the place, nil where there is nothing.
func (h *hostPlace) runStat(cfg *record.Config, follow bool) (*control.PathStat, error) {
	var out bytes.Buffer
	if err := h.run(cfg, nil, &out, "stat", "", follow); err != nil {
		return nil, err
	}
	var st *control.PathStat
	return st, decode(out.Bytes(), &st)
}

// hostOp does what args ask for: stat, pack or unpack.
func hostOp(in io.Reader, out io.Writer, args []string) error {
	if len(args) != 5 {
		return errors.New("unknown request")
	}
	h := &hostPlace{dir: args[1], path: args[2]}
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
func (h *hostPlace) open() (*os.Root, error) {
	fd, err := sandbox.OpenSource(h.dir)
	if err != nil {
		return nil, err
	}
	defer sys.Close(fd)
	return os.OpenRoot(sys.FdPath(fd))
}

// stat describes the place, nil where there is nothing.
func (h *hostPlace) stat(follow bool) (*control.PathStat, error) {
	root, err := h.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	look := root.Lstat
	if follow {
		look = root.Stat
	}
	fi, err := look(h.path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	st := &control.PathStat{Name: path.Base(h.path), Size: fi.Size(), Mtime: fi.ModTime().UTC()}
	if raw, ok := fi.Sys().(*syscall.Stat_t); ok {
		st.Mode = raw.Mode
	}
	if fi.Mode()&fs.ModeSymlink != 0 {
		st.Target, err = root.Readlink(h.path)
	}
	return st, err
}

// pack writes the place and all below it as a tar stream in which it is called name; with the empty name a directory's
// content stands at the top.
func (h *hostPlace) pack(w io.Writer, name string, follow bool) error {
	root, err := h.open()
	if err != nil {
		return err
	}
	defer root.Close()
	start := h.path
	look := root.Lstat
	if follow || name == "" {
		look = root.Stat
	}
	fi, err := look(start)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		sub, err := root.OpenRoot(start)
		if err != nil {
			return err
		}
		defer sub.Close()
		root, start = sub, "."
	}
	tw := tar.NewWriter(w)
	if err := packTree(tw, root, start, name, follow, make(hostLinks)); err != nil {
		return err
	}
	return tw.Close()
}

// packTree writes an object, under a name unless that is empty, and all below it. Package fs cannot walk here: it refuses
// names that are not UTF-8.
func packTree(tw *tar.Writer, root *os.Root, p, name string, follow bool, links hostLinks) error {
	if name != "" {
		if err := packRooted(tw, root, p, name, follow, links); err != nil {
			return err
		}
	}
	look := root.Lstat
	if follow {
		look = root.Stat
	}
	fi, err := look(p)
	if errors.Is(err, os.ErrNotExist) || err == nil && !fi.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	dir, err := root.Open(p)
	if err != nil {
		return err
	}
	entries, err := dir.ReadDir(-1)
	dir.Close()
	if err != nil {
		return err
	}
	slices.SortFunc(entries, func(a, b os.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	for _, e := range entries {
		if err := packTree(tw, root, path.Join(p, e.Name()), path.Join(name, e.Name()), false, links); err != nil {
			return err
		}
	}
	return nil
}

// packRooted writes one object.
func packRooted(tw *tar.Writer, root *os.Root, p, name string, follow bool, links hostLinks) error {
	look := root.Lstat
	if follow {
		look = root.Stat
	}
	fi, err := look(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil // removed meanwhile
	}
	if err != nil {
		return err
	}
	h, err := hostHeader(fi, name, links, func() (string, error) { return root.Readlink(p) })
	if err != nil || h == nil {
		return err
	}
	if h.Uid == os.Geteuid() { // where there is one owner, it is root to the container
		h.Uid, h.Gid = 0, 0
	}
	if h.Typeflag != tar.TypeReg {
		return tw.WriteHeader(h)
	}
	f, err := openRegular(root, p, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	return packContent(tw, h, f)
}

// unpack unpacks a tar stream into the place, a directory.
func (h *hostPlace) unpack(r io.Reader, owners bool) error {
	root, err := h.open()
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll(h.path, 0o755); err != nil {
		return err
	}
	sub, err := root.OpenRoot(h.path)
	if err != nil {
		return err
	}
	defer sub.Close()
	return unpack(r, sub, filepath.Join(h.dir, h.path), owners, true)
}
