package cow

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"mica/internal/sys"
	"mica/whiteout"
)

// OwnersMode says where a directory keeps the owners that the union shows.
type OwnersMode uint8

// The modes.
const (
	// OwnersStored: in attributes, as package ondisk spells them; an object
	// without one belongs to 0:0.
	OwnersStored OwnersMode = iota
	// OwnersReal: in the inodes, as in any directory. Overrides that are
	// there all the same are honoured.
	OwnersReal
)

// CopyUpMode says how the content of a lower file reaches the upper.
type CopyUpMode uint8

// The modes.
const (
	// CopyUpBlocks copies the blocks that are written, as they are written.
	CopyUpBlocks CopyUpMode = iota
	// CopyUpFull copies whole files, so that the upper can be read without
	// mica.
	CopyUpFull
)

// Lower is one read-only layer.
type Lower struct {
	Dir    string
	Owners OwnersMode
	// Catalog is the path of a file that WriteCatalog may have made of the
	// layer. Only a layer that nobody changes can have one.
	Catalog string
}

// Config describes a union.
type Config struct {
	Lowers []Lower // topmost first
	// Upper receives all changes and Work, on the same filesystem, holds what
	// is in the making. Without an upper the union is read-only.
	Upper, Work string
	UpperOwners OwnersMode
	CopyUp      CopyUpMode
	// Redirect lets a directory with lower content be renamed by a mark in the
	// upper. Without it such a rename copies the tree up.
	NoRedirect bool
	// Stays is the path of a directory that cannot be renamed, nor can those
	// that it lies in: EXDEV. Empty: there is none.
	Stays string
	// Volatile leaves out every sync.
	Volatile bool
	// Observe opens a union that another process may have mounted, for
	// reading: nothing is changed on disk.
	Observe bool
	// MaxFDs bounds the descriptors kept open; 0 chooses by RLIMIT_NOFILE.
	MaxFDs int
	// NoAtime leaves the access times of files in the upper alone, as those of
	// lower ones always are.
	NoAtime bool
	// LockWait is how long to wait for an upper that is in use: the server of
	// a mount that has just gone is busy for a moment longer. It is at least a
	// second.
	LockWait time.Duration
	// StaticNlink shows 1 as the link count of every directory.
	StaticNlink bool
	// SkipMount is the mountpoint, if it may lie inside a layer: what is
	// mounted there is not looked at.
	SkipMount string

	machine machine // nil: this one
}

// MaxLayers bounds the number of lower layers.
const MaxLayers = 1000

// layer is one member of the stack as the union keeps it.
type layer struct {
	root    *dirRef
	owners  OwnersMode
	dev     uint64 // filesystem and inode of the root
	rootIno uint64
	index   uint16                                              // number of its inode space, see FS.unionIno
	catalog lazyCatalog                                         // its listings
	mounts  bool                                                // other filesystems may be mounted in it
	inside  []mountInside                                       // those that are
	inos    *inoSource                                          // of the stack
	rootFD  int                                                 // pinned in root
	quiet   bool                                                // its access times must not change, and need not
	lift    func(dirfd int, name string, do func() error) error // of the upper: FS.lift
}

// FS is one union. Its methods may be called concurrently.
type FS struct {
	cfg     Config
	layers  []*layer // [0] is the upper when there is one
	upper   *layer   // nil: read-only
	work    *workDir
	anchors []anchor // immutable
	style   whiteout.Style
	fds     *fdCache
	ahead   prefetcher

	// largeCopy is held over a copy-up that is made without FS.tree, before it.
	largeCopy sync.Mutex
	// tree guards every name and place: Node.parent, Node.ent, Node.back,
	// dirRef.parent and the stacks. See the lock order in docs/architecture.md.
	tree sync.RWMutex
	root *Node

	lifting sync.Mutex    // held while an object has another mode, see lift, or lacks privileges, see writeOwn
	lifts   atomic.Uint64 // odd meanwhile
	linkMu  sync.Mutex
	links   map[uint64]*Node   // nodes with more than one name, by backing inode
	aliases map[*Node][]alias  // their further names; guarded by linkMu, or tree held exclusively
	orphans map[*Node]struct{} // without a name, alive through a pinned descriptor

	capsMu  sync.Mutex
	capTalk capTalk

	dirtyMu sync.Mutex
	dirty   map[*Node]error // copied up, not yet known to be on disk; why, if a sync in the background failed
	settler *time.Timer     // syncs them; set while there are any
	closing bool            // there will be no settler any more
	inos    inoSource

	settling sync.WaitGroup // runs of the settler
}

// Open opens a union. The caller must Close it.
func Open(cfg Config) (_ *FS, err error) {
	if len(cfg.Lowers) == 0 && cfg.Upper == "" {
		return nil, errors.New("open union: no layer and no upper directory")
	}
	if len(cfg.Lowers) > MaxLayers {
		return nil, fmt.Errorf("open union: %d layers; at most %d are possible", len(cfg.Lowers), MaxLayers)
	}
	if cfg.machine == nil {
		cfg.machine = linux{}
	}
	f := &FS{cfg: cfg, fds: newFDCache(cfg.MaxFDs), links: make(map[uint64]*Node), aliases: make(map[*Node][]alias),
		orphans: make(map[*Node]struct{}), dirty: make(map[*Node]error)}
	defer func() {
		if err != nil {
			_ = f.Close()
		}
	}()
	if cfg.Upper != "" {
		if f.upper, err = f.addLayer(Lower{Dir: cfg.Upper, Owners: cfg.UpperOwners}); err != nil {
			return nil, fmt.Errorf("open upper directory %s: %w", cfg.Upper, err)
		}
		f.upper.lift = f.lift
		if err := f.openWork(); err != nil {
			return nil, err
		}
		if err := f.noteRecords(); err != nil {
			return nil, fmt.Errorf("mark upper directory %s: %w", cfg.Upper, err)
		}
	}
	for _, l := range cfg.Lowers {
		if _, err := f.addLayer(l); err != nil {
			return nil, fmt.Errorf("open layer %s: %w", l.Dir, err)
		}
	}
	if err := f.findMounts(); err != nil {
		return nil, fmt.Errorf("look for mounts in the layers: %w", err)
	}
	if err := f.findAnchors(); err != nil {
		return nil, fmt.Errorf("look for the mountpoint in the layers: %w", err)
	}
	if f.root, err = f.makeRoot(); err == unix.EOPNOTSUPP && f.upper != nil && !takesAttributes(f.upper.rootFD) {
		return nil, fmt.Errorf("open upper directory %s: its filesystem takes no user extended attributes, which keep owners: choose a directory of another one (tmpfs takes them since Linux 6.6)", cfg.Upper)
	} else if err != nil {
		return nil, fmt.Errorf("read the root of the union: %w", err)
	}
	return f, nil
}

// takesAttributes says whether a directory's filesystem knows attributes of users at all.
func takesAttributes(fd int) bool {
	_, err := sys.Getxattr(fd, "", recordsXattr, nil)
	return err != unix.EOPNOTSUPP
}

// addLayer opens a directory as the next layer down.
func (f *FS) addLayer(of Lower) (*layer, error) {
	fd, err := unix.Open(of.Dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer sys.Close(fd)
	var st unix.Statx_t
	if err := sys.Stat(fd, "", &st); err != nil {
		return nil, err
	}
	l := &layer{owners: of.Owners, dev: sys.Dev(&st), rootIno: st.Ino, inos: &f.inos}
	lower := len(f.layers) > 0 || f.cfg.Upper == ""
	l.mounts = lower && of.Catalog == "" // nobody changes one with a catalog
	// Only an owner can leave access times alone: elsewhere it is not tried.
	euid := os.Geteuid()
	l.quiet = (lower || f.cfg.NoAtime) && (euid == 0 || uint32(euid) == st.Uid)
	flags := unix.O_RDONLY | unix.O_DIRECTORY
	if l.quiet {
		flags |= unix.O_NOATIME
	}
	rootFD, err := sys.Reopen(fd, flags)
	if err == unix.EPERM {
		rootFD, err = sys.Reopen(fd, unix.O_RDONLY|unix.O_DIRECTORY)
	}
	if err != nil {
		return nil, err
	}
	if _, err := sys.Getxattr(rootFD, "", recordsXattr, nil); err == nil && lower {
		sys.Close(rootFD)
		return nil, errNeedsLayers
	}
	l.rootFD = rootFD
	l.root = &dirRef{layer: l}
	f.fds.pin(&l.root.fd, rootFD)
	l.index = f.inos.add(l.dev, st.Ino)
	l.catalog.path, l.catalog.root = of.Catalog, st
	f.layers = append(f.layers, l)
	return l, nil
}

// makeRoot builds the root node over the roots of all layers.
func (f *FS) makeRoot() (*Node, error) {
	var roots []*dirRef
	for _, l := range f.layers {
		roots = append(roots, l.root)
	}
	n := &Node{dir: newDirState(roots...)}
	n.refs.Store(1)
	fd, err := f.use(n.dir.top)
	if err != nil {
		return nil, err
	}
	defer f.done(n.dir.top, fd)
	var st unix.Statx_t
	info, err := f.look(n.layer(), fd, "", &st)
	if err != nil {
		return nil, err
	}
	if info.meta.Type() != unix.S_IFDIR {
		return nil, unix.ENOTDIR
	}
	if f.upper != nil && !info.origin && f.upper.owners == OwnersStored && !f.cfg.Observe && len(f.layers) > 1 {
		return n, f.dressRoot(n, fd)
	}
	return n, f.adopt(n, info, &st, fd, "")
}

// dressRoot gives the root of a new upper directory what the topmost layer's
// root has, as a copy-up would.
func (f *FS) dressRoot(n *Node, fd int) error {
	top := f.layers[1]
	lfd, err := f.use(top.root)
	if err != nil {
		return err
	}
	defer f.done(top.root, lfd)
	var st unix.Statx_t
	info, err := f.look(top, lfd, "", &st)
	if err != nil {
		return err
	}
	xattrs, err := readXattrs(top, lfd, "")
	if err != nil {
		return err
	}
	for name, value := range xattrs {
		if stored, ok := xattrOnDisk(f.upper, name); ok {
			if err := sys.Setxattr(fd, "", stored, value, 0); err != nil {
				return err
			}
		}
	}
	if err := f.setMeta(fd, "", info.meta); err != nil {
		return err
	}
	ino := unionIno(top, st.Ino)
	if err := f.writeOrigin(fd, "", origin{ino: ino, state: stateFull}); err != nil {
		return err
	}
	if err := setTimes(fd, "", &st); err != nil {
		return err
	}
	if info, err = f.look(f.upper, fd, "", &st); err != nil {
		return err
	}
	return f.adopt(n, info, &st, fd, "")
}

// Root is the node of the root directory.
func (f *FS) Root() *Node { return f.root }

// ReadOnly tells whether the union has no upper.
func (f *FS) ReadOnly() bool { return f.upper == nil || f.cfg.Observe }

// Close writes what a clean end must leave on disk and closes all
// descriptors. No method may be called afterwards.
func (f *FS) Close() error {
	f.ahead.close()
	f.endSettling()
	err := f.Sync()
	f.tree.Lock()
	defer f.tree.Unlock()
	for n := range f.orphans {
		f.fds.unpin(&n.file.fd)
	}
	if f.work != nil {
		f.closeWork()
	}
	for _, a := range f.anchors {
		f.fds.unpin(&a.ref.fd)
	}
	for _, l := range f.layers {
		f.fds.unpin(&l.root.fd)
		l.catalog.close()
	}
	f.fds.closeAll()
	return err
}

// fdLimit chooses how many descriptors to keep: half of what the process may
// open, since requests under way, the device and the caller need some too.
func fdLimit() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 256
	}
	return int(max(16, min(r.Cur/2, 1<<15)))
}
