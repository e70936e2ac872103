package cow

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
)

// Problem is one thing wrong with an upper directory or its work directory.
type Problem struct {
	Path     string // relative to the directory that holds both
	What     string
	Repaired bool
}

// Check looks for what a process or machine that died, or another program, has
// left wrong in an upper directory: records that say nothing, or lead nowhere,
// and leftovers in the work directory that nothing refers to. With repair it
// removes and corrects what can be without a loss, and makes all copies
// durable. It fails with ErrInUse if the upper directory is mounted.
//
// A crash alone leaves leftovers, which do no harm, and no record that is bad.
func Check(cfg Config, repair bool) ([]Problem, error) {
	lock, err := lockForCheck(cfg)
	if err != nil {
		return nil, err
	}
	problems, repairs, err := check(cfg, repair)
	sys.Close(lock)
	if err != nil || !repair {
		return problems, err
	}
	var errs []error
	for _, r := range repairs {
		err := r.apply()
		problems[r.problem].Repaired = err == nil
		if err != nil {
			errs = append(errs, fmt.Errorf("repair %s: %w", problems[r.problem].Path, err))
		}
	}
	if cfg.Volatile || len(problems) > 0 && problems[0].What == volatileUse {
		return problems, errors.Join(errs...)
	}
	return problems, errors.Join(append(errs, settleUpper(cfg))...)
}

// volatileUse is the problem of an upper directory that may lack anything.
const volatileUse = "it was used without syncs and not closed: its content may be incomplete"

// lockForCheck keeps mounts away while the check reads.
func lockForCheck(cfg Config) (int, error) {
	fd, err := unix.Open(cfg.Work, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open work directory %s: %w", cfg.Work, err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		sys.Close(fd)
		if err == unix.EWOULDBLOCK {
			err = ErrInUse
		}
		return -1, fmt.Errorf("check upper directory %s: %w", cfg.Upper, err)
	}
	return fd, nil
}

// settleUpper opens the union as a mount would, which empties the staging
// directory, and syncs every copy that is not known to be on disk.
func settleUpper(cfg Config) error {
	cfg.Observe = false
	f, err := Open(cfg)
	if err != nil {
		return err
	}
	// What cannot be looked up has been reported.
	_ = f.Changes(context.Background(), func(*Change) error { return nil })
	return f.Close()
}

// repair is what would put a problem right.
type repair struct {
	problem int
	apply   func() error
}

// checker is one check under way.
type checker struct {
	f        *FS
	problems []Problem
	repairs  []repair

	maps    map[string]bool // block maps that records name
	kept    map[uint64]bool // inode numbers that placeholders of symlinks go on to show
	special map[uint64]bool // inodes on disk of symlinks and special files
	links   map[uint64]int  // names that the union shows, by inode number in the index
	unseen  bool            // some names could not be counted
}

// check reads everything and changes nothing.
func check(cfg Config, repair bool) ([]Problem, []repair, error) {
	cfg.Observe = true
	f, err := Open(cfg)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	c := &checker{f: f, maps: make(map[string]bool), kept: make(map[uint64]bool),
		special: make(map[uint64]bool), links: make(map[uint64]int)}
	if f.usedVolatile() {
		c.found(c.workPath(volatileName), volatileUse, nil)
	}
	if err := c.staging(); err != nil {
		return nil, nil, err
	}
	up, err := f.use(f.upper.root)
	if err != nil {
		return nil, nil, err
	}
	defer f.done(f.upper.root, up)
	if err := c.upper(up, filepath.Base(cfg.Upper)); err != nil {
		return nil, nil, err
	}
	if err := c.index(); err != nil {
		return nil, nil, err
	}
	return c.problems, c.repairs, c.orphanMaps()
}

// found notes a problem; a nil fix says that there is no safe one.
func (c *checker) found(path, what string, fix func() error) {
	if fix != nil {
		c.repairs = append(c.repairs, repair{len(c.problems), fix})
	}
	c.problems = append(c.problems, Problem{Path: path, What: what})
}

// workPath is the path of a file in the work directory, for messages.
func (c *checker) workPath(elem ...string) string {
	return filepath.Join(append([]string{filepath.Base(c.f.cfg.Work)}, elem...)...)
}

// list gives the names in a directory of the work directory; one that is
// missing has none.
func (c *checker) list(dir string) ([]string, error) {
	fd, err := sys.OpenDir(c.f.work.fd, dir)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer sys.Close(fd)
	var names []string
	err = sys.List(fd, func(name []byte, _ uint8, _ uint64) error {
		names = append(names, string(name))
		return nil
	})
	return names, err
}

// staging reports what a process left there that died over it. The next mount
// removes it.
func (c *checker) staging() error {
	names, err := c.list(stagingName)
	if err != nil {
		return fmt.Errorf("list %s: %w", c.workPath(stagingName), err)
	}
	if len(names) > 0 {
		c.found(c.workPath(stagingName), fmt.Sprintf("%d objects were left by a process that died", len(names)), func() error { return nil })
	}
	return nil
}

// orphanMaps reports block maps that no file has.
func (c *checker) orphanMaps() error {
	names, err := c.list(mapsName)
	if err != nil {
		return fmt.Errorf("list %s: %w", c.workPath(mapsName), err)
	}
	for _, name := range names {
		if !c.maps[name] {
			c.found(c.workPath(mapsName, name), "no file has this block map", c.removeWork(mapsName, name))
		}
	}
	return nil
}

// removeWork removes a file in a directory of the work directory, which the
// repair opens anew.
func (c *checker) removeWork(dir, name string) func() error {
	path := filepath.Join(c.f.cfg.Work, dir, name)
	return func() error { return unix.Unlink(path) }
}

// index checks the copies of hard-linked files, and the symlinks that are kept
// for their inode numbers.
func (c *checker) index() error {
	if c.f.work.index == nil {
		return nil
	}
	names, err := c.list(indexName)
	if err != nil || len(names) == 0 {
		return err
	}
	c.countLinks(c.f.root)
	fd, err := c.f.use(c.f.work.index)
	if err != nil {
		return err
	}
	defer c.f.done(c.f.work.index, fd)
	for _, name := range names {
		path := c.workPath(indexName, name)
		if rest, ok := strings.CutPrefix(name, "ino-"); ok {
			if disk, err := strconv.ParseUint(rest, 16, 64); err == nil && !c.special[disk] {
				c.found(path, "no object has this inode", c.removeWork(indexName, name))
			}
			continue
		}
		if rest, ok := strings.CutPrefix(name, "kept-"); ok {
			if ino, err := strconv.ParseUint(rest, 16, 64); err == nil && !c.kept[ino] {
				c.found(path, "no symlink shows this inode number", c.removeWork(indexName, name))
			}
			continue
		}
		ino, err := strconv.ParseUint(name, 16, 64)
		if err != nil {
			c.found(path, "it is no entry of the index", nil)
			continue
		}
		if err := c.indexed(fd, name, path, ino); err != nil {
			return err
		}
	}
	return nil
}

// indexed checks one copy in the index.
func (c *checker) indexed(fd int, name, path string, ino uint64) error {
	var st unix.Statx_t
	n := &Node{back: place{c.f.work.index, name}, flags: flagLinked}
	info, err := c.f.look(c.f.upper, fd, name, &st)
	if err == nil && info.origin {
		_, err = c.origin(fd, name)
	}
	if err == nil {
		err = c.f.adopt(n, info, &st, fd, name)
	}
	c.forgetContent(n)
	shown := c.links[ino]
	switch {
	case err != nil:
		c.found(path, err.Error(), nil)
	case n.ino != ino:
		c.found(path, fmt.Sprintf("it is a copy of inode %d", n.ino), nil)
	case c.unseen:
		// What counts may be among the names that could not be seen.
	case shown == 0:
		c.found(path, "no name leads to it", c.removeWork(indexName, name))
	case !info.nlink || int(int32(st.Nlink)+n.nlink) < shown:
		// One that is too high is what a crash leaves: the copy stays for nothing.
		delta := strconv.Itoa(shown - int(st.Nlink))
		file := filepath.Join(c.f.cfg.Work, indexName, name)
		c.found(path, fmt.Sprintf("its link count is too low for its %d names", shown), func() error {
			return unix.Lsetxattr(file, nlinkXattr, []byte(delta), 0)
		})
	}
	return nil
}

// origin reads the record of a copy, and notes the block map that it names.
func (c *checker) origin(fd int, name string) (origin, error) {
	raw, err := sys.GetxattrAll(fd, name, originXattr)
	if err != nil {
		return origin{}, err
	}
	o, err := parseOrigin(string(raw))
	if err == nil && (o.state == stateNew || o.state == stateMap) {
		c.maps[o.arg] = true
	}
	return o, err
}

// countLinks counts the names that the union shows of files in the index. What
// cannot be looked up is a problem of its own, found elsewhere, or of a layer
// that its user may not read.
func (c *checker) countLinks(n *Node) {
	entries, err := c.f.entries(n, true)
	c.unseen = c.unseen || err != nil
	for _, e := range entries {
		if e.node.flags&flagIndexed != 0 {
			c.links[e.node.ino]++
		}
		if e.node.dir != nil {
			c.countLinks(e.node)
		}
		c.f.Forget(e.node, 1)
	}
}

// forgetContent closes what a look at a partly copied file has opened.
func (c *checker) forgetContent(n *Node) {
	if n.file != nil && n.file.part != nil {
		n.file.part.close(c.f)
	}
}
