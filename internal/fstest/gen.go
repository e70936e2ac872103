package fstest

import (
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// slots is how many open files, and mappings, an actor has.
const slotCount = 6

// generator chooses operations, looking at what is in the plain directory so
// that most of them hit something.
type generator struct {
	rnd   *rand.Rand
	opt   Options
	plain *side

	all, dirs, files, links []string // what there is, by path
	age                     int      // operations since it was looked at
	dirSlots                []int    // of the actor whose turn it is
}

func newGenerator(seed uint64, opt Options, plain *side) *generator {
	return &generator{rnd: rand.New(rand.NewPCG(seed, 2)), opt: opt, plain: plain}
}

// look takes stock of the plain directory.
func (g *generator) look() {
	g.age = 0
	snap, err := g.plain.snap(statOnly)
	if err != nil {
		return // what is known stays good enough
	}
	g.all, g.dirs, g.files, g.links = nil, nil, nil, nil
	for _, p := range slices.Sorted(maps.Keys(snap)) {
		g.all = append(g.all, p)
		switch snap[p].typ << 12 {
		case unix.S_IFDIR:
			g.dirs = append(g.dirs, p)
		case unix.S_IFREG:
			g.files = append(g.files, p)
		case unix.S_IFLNK:
			g.links = append(g.links, p)
		}
	}
}

// lookSlots notes which of an actor's open files are directories.
func (g *generator) lookSlots(actor int) {
	g.dirSlots = g.dirSlots[:0]
	for i := range slotCount {
		var st unix.Stat_t
		f, ok := g.plain.slots[slotKey{actor, i}]
		if ok && unix.Fstat(f.fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			g.dirSlots = append(g.dirSlots, i)
		}
	}
}

// fullSlots turns an operation to slots that have something, most often.
func (g *generator) fullSlots(o *Op) {
	if g.rnd.IntN(30) == 0 {
		return
	}
	_, onMap := mapOps[o.Code]
	_, onFile := fileOps[o.Code]
	for range slotCount {
		if _, ok := g.plain.slots[slotKey{o.Actor, o.Slot}]; onFile && !ok {
			o.Slot = (o.Slot + 1) % slotCount
		}
		if _, ok := g.plain.maps[slotKey{o.Actor, o.Slot2}]; onMap && !ok {
			o.Slot2 = (o.Slot2 + 1) % slotCount
		}
		if _, ok := g.plain.slots[slotKey{o.Actor, o.Slot2}]; o.Code == OpCopyRange && !ok {
			o.Slot2 = (o.Slot2 + 1) % slotCount
		}
	}
}

// align makes an operation on a file opened with O_DIRECT one that every
// filesystem carries out: what of others fails is each one's own.
func (g *generator) align(o *Op) {
	direct := func(slot int) bool {
		f, ok := g.plain.slots[slotKey{o.Actor, slot}]
		if !ok {
			return false
		}
		flags, err := unix.FcntlInt(uintptr(f.fd), unix.F_GETFL, 0)
		return err == nil && flags&unix.O_DIRECT != 0
	}
	switch {
	case o.Code == OpCopyRange && (direct(o.Slot) || direct(o.Slot2)):
		o.Code = OpPread
	case !direct(o.Slot):
		return
	case o.Code == OpRead:
		o.Code = OpPread
	case o.Code == OpWrite || o.Code == OpScript:
		o.Code = OpPwrite
	}
	if o.Code == OpPread || o.Code == OpPwrite {
		o.Off, o.Len = o.Off&^4095, max(o.Len&^4095, 4096)
	}
}

func (g *generator) one(paths []string) string {
	if len(paths) == 0 || g.rnd.IntN(12) == 0 {
		return g.newPath()
	}
	return paths[g.rnd.IntN(len(paths))]
}

// newPath is a path that may or may not exist, rarely below something that is
// no directory.
func (g *generator) newPath() string {
	parent := ""
	switch {
	case g.rnd.IntN(15) == 0 && len(g.all) > 0:
		parent = g.all[g.rnd.IntN(len(g.all))]
	case len(g.dirs) > 0:
		parent = g.dirs[g.rnd.IntN(len(g.dirs))]
	}
	if strings.Count(parent, "/") > 5 {
		parent = path.Dir(parent)
	}
	name := anyName(g.rnd)
	if parent == "" || parent == "." {
		return name
	}
	return parent + "/" + name
}

// file is most often a regular file's path.
func (g *generator) file() string {
	switch g.rnd.IntN(10) {
	case 0:
		return g.one(g.all)
	case 1:
		return g.one(g.links)
	}
	return g.one(g.files)
}

func (g *generator) any() string { return g.one(g.all) }

func (g *generator) dir() string {
	if g.rnd.IntN(10) == 0 {
		return g.one(g.all)
	}
	return g.one(g.dirs)
}

// next chooses an operation.
func (g *generator) next() Op {
	if g.age++; g.age > 12 || g.all == nil {
		g.look()
	}
	o := Op{Slot: g.rnd.IntN(slotCount), Slot2: g.rnd.IntN(slotCount), Seed: g.rnd.Uint64()}
	if g.rnd.IntN(3) == 0 { // the first may do most
		o.Actor = g.rnd.IntN(len(g.opt.Actors))
	}
	g.lookSlots(o.Actor)
	if n := g.opt.RemountEvery; n > 0 && g.rnd.IntN(n) == 0 {
		return Op{Code: OpRemount}
	}
	if n := g.opt.CrashEvery; n > 0 && g.rnd.IntN(n) == 0 {
		return Op{Code: OpCrash}
	}
	if n := g.opt.ForgetEvery; n > 0 && g.rnd.IntN(n) == 0 {
		return Op{Code: OpForget}
	}
	w := g.rnd.IntN(totalWeight)
	for _, c := range choices {
		if w -= c.weight; w < 0 {
			o.Code = c.code
			c.fill(g, &o)
			break
		}
	}
	g.fullSlots(&o)
	g.align(&o)
	if o.Path != nil && o.Code != OpMmap && len(g.dirSlots) > 0 && g.rnd.IntN(8) == 0 {
		o.Dir, o.Path = 1+g.dirSlots[g.rnd.IntN(len(g.dirSlots))], []byte(anyName(g.rnd))
	}
	return o
}

func (g *generator) perm(typical []uint32, need uint32) uint32 {
	p := typical[g.rnd.IntN(len(typical))]
	if !g.opt.Scene.AnyMode {
		p |= need
	}
	return p
}

func (g *generator) offset() int64 {
	switch g.rnd.IntN(6) {
	case 0:
		return 0
	case 1:
		return int64(4096)<<g.rnd.IntN(8) + g.rnd.Int64N(3) - 1
	case 2:
		return 4096 * g.rnd.Int64N(64)
	case 3:
		return g.rnd.Int64N(600000)
	}
	return g.rnd.Int64N(5000)
}

func (g *generator) length() int64 {
	switch g.rnd.IntN(6) {
	case 0:
		return 4096 * (1 + g.rnd.Int64N(4))
	case 1:
		return g.rnd.Int64N(150000)
	}
	return g.rnd.Int64N(3000)
}

func (g *generator) time() unix.Timespec {
	switch g.rnd.IntN(6) {
	case 0:
		return unix.Timespec{Nsec: unix.UTIME_NOW}
	case 1:
		return unix.Timespec{Nsec: unix.UTIME_OMIT}
	}
	return oldTime(g.rnd)
}

func (g *generator) id() int {
	if g.rnd.IntN(4) == 0 {
		return -1
	}
	return int(g.opt.Scene.IDs[g.rnd.IntN(len(g.opt.Scene.IDs))])
}

func (g *generator) maybeNoFollow() int {
	if g.rnd.IntN(2) == 0 {
		return noFollow
	}
	return 0
}
