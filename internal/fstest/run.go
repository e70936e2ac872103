package fstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Failure is a difference that a run has found.
type Failure struct {
	Scene *Scene
	Ops   []Op   // up to the one that showed it
	What  string // the difference
	// Results are those of the plain side, by operation.
	Results []Result
}

// Error tells the difference and the operations that led there.
func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nafter %d operations:\n", f.What, len(f.Ops))
	from := max(0, len(f.Ops)-60)
	for i, o := range f.Ops[from:] {
		res := ""
		if from+i < len(f.Results) {
			res = " = " + f.Results[from+i].String()
		}
		fmt.Fprintf(&b, "%5d %s%s\n", from+i, o, res)
	}
	return b.String()
}

// Run does the operations of a seed on the union u and on a plain directory,
// both below the new or empty directory base. It returns a [*Failure] for a difference,
// another error when it could not do its work.
func Run(base string, u Union, seed uint64, opt Options) error {
	opt.setDefaults()
	r, err := newRun(base, u, NewScene(seed, opt.Scene), opt)
	if err != nil {
		return err
	}
	defer r.end()
	g := newGenerator(seed, opt, r.plain)
	return r.loop(func() (Op, bool) { return g.next(), len(r.ops) < opt.Ops })
}

// Replay does the given operations on the given scene.
func Replay(base string, u Union, scene *Scene, ops []Op, opt Options) error {
	opt.setDefaults()
	r, err := newRun(base, u, scene, opt)
	if err != nil {
		return err
	}
	defer r.end()
	return r.loop(func() (Op, bool) {
		if len(r.ops) == len(ops) {
			return Op{}, false
		}
		return ops[len(r.ops)], true
	})
}

type run struct {
	opt    Options
	u      Union
	base   string
	place  Place
	scene  *Scene
	plain  *side
	union  *side
	actors []*actor
	inodes inodes

	ops     []Op
	results []Result
	touched map[string]bool // paths worked on since the last comparison
	rounds  int             // comparisons made
	mounted bool
}

// clockStep is the longest step of the clock that the kernel takes file times from.
const clockStep = 10 * time.Millisecond

func newRun(base string, u Union, scene *Scene, opt Options) (*run, error) {
	fresh := time.Now().Unix() - 1
	r := &run{opt: opt, u: u, base: base, scene: scene, touched: map[string]bool{}}
	r.inodes.forget()
	r.inodes.looseSpecial = opt.UnstableSpecial
	at := func(name string) string { return filepath.Join(base, name) }
	// Both roots have the same name and nothing beside them, so that a path
	// which leaves them by ".." sees the same on both sides.
	r.place = Place{Upper: at("upper"), Work: at("work"), Merged: at("m/root")}
	dirs := []string{r.place.Upper, r.place.Work, r.place.Merged, at("p/root")}
	for i := range scene.Layers {
		dirs = append(dirs, at(fmt.Sprintf("lower%d", i)))
		r.place.Lowers = append([]string{dirs[len(dirs)-1]}, r.place.Lowers...)
	}
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	if err := r.write(at("p/root")); err != nil {
		return nil, err
	}
	unix.Umask(0)
	// The clock of birth times may be a step late: the time of the mount lies amid a pause of more than two.
	r.inodes.mounted, r.inodes.looseBorn = time.Now().Add(clockStep).UnixNano(), opt.Stored
	time.Sleep(2*clockStep + time.Millisecond)
	if err := u.Mount(r.place); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	r.mounted = true
	r.plain, r.union = newSide(at("p/root"), fresh), newSide(r.place.Merged, fresh)
	for _, c := range opt.Actors {
		r.actors = append(r.actors, newActor(c))
	}
	return r, nil
}

// write puts the scene on disk.
func (r *run) write(plain string) error {
	merged := r.scene.Merged()
	if err := WriteTree(plain, merged); err != nil {
		return fmt.Errorf("write plain tree: %w", err)
	}
	if r.u.Native() {
		return WriteTree(r.place.Merged, merged)
	}
	for i, l := range r.scene.Layers {
		if err := WriteLayer(r.place.Lowers[len(r.scene.Layers)-1-i], l, r.opt.Stored); err != nil {
			return fmt.Errorf("write layer %d: %w", i, err)
		}
	}
	// An upper begins as the topmost layer's root does, or the merged root
	// would show the upper's owner and mode.
	top := *r.scene.Layers[len(r.scene.Layers)-1].Root
	top.Kids, top.Opaque = nil, false
	return WriteLayer(r.place.Upper, Layer{Root: &top}, r.opt.Stored)
}

func (r *run) end() {
	unix.Umask(0o22)
	r.plain.closeAll()
	r.union.closeAll()
	for _, a := range r.actors {
		a.stop()
	}
	if r.mounted {
		r.u.Unmount(r.place)
	}
}

func (r *run) fail(format string, a ...any) error {
	return &Failure{Scene: r.scene, Ops: r.ops, Results: r.results, What: fmt.Sprintf(format, a...)}
}

func (r *run) loop(next func() (Op, bool)) error {
	if err := r.compare(true); err != nil {
		return err
	}
	for {
		o, ok := next()
		if !ok {
			break
		}
		if o.Actor >= len(r.actors) {
			o.Actor = 0
		}
		r.ops = append(r.ops, o)
		if err := r.step(o); err != nil {
			return err
		}
		if r.opt.Done != nil {
			r.opt.Done(o, r.results[len(r.results)-1])
		}
		if len(r.ops)%r.opt.CompareEvery == 0 {
			if err := r.compare(false); err != nil {
				return err
			}
		}
	}
	if err := r.compare(true); err != nil {
		return err
	}
	if err := r.remount(); err != nil {
		return err
	}
	return r.compare(true)
}

// compare compares the whole trees.
func (r *run) compare(deep bool) error {
	r.rounds++
	d := withXattrs
	if deep || r.rounds%4 == 0 {
		d = withContent
	}
	plain, err := r.plain.snap(d)
	if err != nil {
		return fmt.Errorf("read the plain side: %w", err)
	}
	union, err := r.union.snap(d)
	if err != nil {
		return r.fail("read the union: %v", err)
	}
	if d != withContent {
		for p := range r.touched {
			a, b := plain[p], union[p]
			if a == nil || b == nil || a.typ<<12 != unix.S_IFREG {
				continue
			}
			if err := a.addContent(r.plain.abs([]byte(p))); err != nil {
				return err
			}
			if err := b.addContent(r.union.abs([]byte(p))); err != nil {
				return r.fail("read %q of the union: %v", p, err)
			}
		}
	}
	clear(r.touched)
	if lines := r.inodes.diff(plain, union); len(lines) > 0 {
		return r.fail("trees differ:\n%s", strings.Join(lines, "\n"))
	}
	return nil
}

func (r *run) remount() error {
	r.plain.closeAll()
	r.union.closeAll()
	r.mounted = false
	if err := r.u.Unmount(r.place); err != nil {
		return r.fail("unmount: %v", err)
	}
	if err := r.u.Mount(r.place); err != nil {
		return r.fail("mount again: %v", err)
	}
	r.mounted = true
	if r.opt.UnstableInodes {
		r.inodes.forget()
	}
	return nil
}

// crash syncs every file of the union, kills its server and mounts again: all
// must be there. A union that cannot be killed is mounted again only.
func (r *run) crash() error {
	c, ok := r.u.(Crasher)
	if !ok {
		return r.remount()
	}
	r.plain.closeAll()
	r.union.closeAll()
	err := filepath.WalkDir(r.place.Merged, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() && !d.IsDir() {
			return nil // what cannot be listed is not worth a complaint here
		}
		f, err := os.Open(p)
		if err != nil {
			return nil
		}
		defer f.Close()
		return f.Sync()
	})
	if err != nil {
		return r.fail("sync the union: %v", err)
	}
	if err := c.Crash(r.place); err != nil {
		return fmt.Errorf("kill the server: %w", err)
	}
	r.mounted = false
	if err := r.u.Mount(r.place); err != nil {
		return r.fail("mount after the server was killed: %v", err)
	}
	r.mounted = true
	return nil
}
