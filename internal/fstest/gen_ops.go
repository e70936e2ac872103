package fstest

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// choice is an operation that the generator may choose, and how often.
type choice struct {
	code   Code
	weight int
	fill   func(g *generator, o *Op)
}

var totalWeight = func() (n int) {
	for _, c := range choices {
		n += c.weight
	}
	return n
}()

func none(*generator, *Op) {}

func anyPath(g *generator, o *Op) { o.Path, o.Flags = []byte(g.any()), g.maybeNoFollow() }

func span(g *generator, o *Op) { o.Off, o.Len = g.offset(), g.length() }

var choices = []choice{
	{OpOpen, 110, func(g *generator, o *Op) {
		o.Path = []byte(g.file())
		o.Flags = [...]int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR}[g.rnd.IntN(4)]
		if g.rnd.IntN(3) == 0 {
			o.Flags |= unix.O_CREAT
			if g.rnd.IntN(2) == 0 {
				o.Path = []byte(g.newPath())
			}
			o.Mode = g.perm(filePerms, 0o600)
		}
		for _, f := range []struct{ flag, odds int }{
			{unix.O_EXCL, 5}, {unix.O_TRUNC, 6}, {unix.O_APPEND, 6}, {unix.O_NOFOLLOW, 15}, {unix.O_DIRECTORY, 40},
		} {
			if g.rnd.IntN(f.odds) == 0 && (f.flag != unix.O_EXCL || o.Flags&unix.O_CREAT != 0) {
				o.Flags |= f.flag
			}
		}
		switch g.rnd.IntN(60) {
		case 0:
			o.Flags = unix.O_PATH | o.Flags&unix.O_NOFOLLOW
		case 1, 2, 3:
			o.Flags = o.Flags&^unix.O_APPEND | unix.O_DIRECT
		case 4:
			o.Flags |= unix.O_SYNC
		}
	}},
	{OpTmpfile, 10, func(g *generator, o *Op) {
		o.Path, o.Mode, o.Flags = []byte(g.dir()), g.perm(filePerms, 0o600), unix.O_RDWR
		if g.rnd.IntN(6) == 0 {
			o.Flags |= unix.O_EXCL
		}
	}},
	{OpClose, 20, none},
	{OpRead, 25, func(g *generator, o *Op) { o.Len = g.length() }},
	{OpPread, 45, span},
	{OpWrite, 30, func(g *generator, o *Op) { o.Len = g.length() }},
	{OpPwrite, 55, span},
	{OpSeek, 25, func(g *generator, o *Op) { o.Off, o.Flags = g.offset(), g.rnd.IntN(5) }},
	{OpTruncate, 20, func(g *generator, o *Op) { o.Path, o.Len = []byte(g.file()), g.offset() }},
	{OpFtruncate, 25, func(g *generator, o *Op) { o.Len = g.offset() }},
	{OpFallocate, 30, func(g *generator, o *Op) {
		span(g, o)
		o.Len++
		o.Flags = fallocModes[g.rnd.IntN(len(fallocModes))]
		if g.opt.NoCollapse {
			o.Flags &^= unix.FALLOC_FL_COLLAPSE_RANGE | unix.FALLOC_FL_INSERT_RANGE
		}
		if o.Flags&(unix.FALLOC_FL_COLLAPSE_RANGE|unix.FALLOC_FL_INSERT_RANGE) != 0 {
			o.Off, o.Len = o.Off&^4095, (o.Len+4095)&^4095
		}
	}},
	{OpCopyRange, 20, func(g *generator, o *Op) { span(g, o); o.Off2 = g.offset() }},
	{OpFsync, 6, none},
	{OpFdatasync, 3, none},
	{OpSyncfs, 1, none},
	{OpFadvise, 4, func(g *generator, o *Op) {
		span(g, o)
		o.Flags = [...]int{unix.FADV_DONTNEED, unix.FADV_WILLNEED, unix.FADV_RANDOM}[g.rnd.IntN(3)]
	}},
	{OpGetflags, 4, none},
	{OpScript, 6, none},
	{OpExec, 12, func(g *generator, o *Op) { o.Path = []byte(g.file()) }},
	{OpMmap, 25, func(g *generator, o *Op) {
		span(g, o)
		o.Off &^= 4095
		o.Len++
		o.Flags = unix.MAP_SHARED
		o.Mode = unix.PROT_READ
		switch g.rnd.IntN(4) {
		case 0:
			o.Flags = unix.MAP_PRIVATE
		case 1:
		default:
			o.Mode |= unix.PROT_WRITE
		}
	}},
	{OpMapRead, 25, span},
	{OpMapWrite, 30, func(g *generator, o *Op) {
		span(g, o)
		o.Flags = 1 // sync: until then POSIX leaves open when the mtime changes
	}},
	{OpMunmap, 5, none},
	{OpLink, 35, func(g *generator, o *Op) {
		o.Path, o.Path2, o.Flags = []byte(g.file()), []byte(g.newPath()), g.maybeNoFollow()
	}},
	{OpLinkF, 12, func(g *generator, o *Op) { o.Path = []byte(g.newPath()) }},
	{OpUnlink, 45, func(g *generator, o *Op) { o.Path = []byte(g.any()) }},
	{OpMkdir, 50, func(g *generator, o *Op) { o.Path, o.Mode = []byte(g.newPath()), g.perm(dirPerms, 0o700) }},
	{OpRmdir, 20, func(g *generator, o *Op) { o.Path = []byte(g.dir()) }},
	{OpRename, 90, func(g *generator, o *Op) {
		o.Path, o.Path2 = []byte(g.any()), []byte(g.newPath())
		if g.rnd.IntN(2) == 0 {
			o.Path2 = []byte(g.any())
		}
		if g.rnd.IntN(3) == 0 {
			o.Path = []byte(g.dir())
		}
		o.Flags = [...]int{0, 0, 0, unix.RENAME_NOREPLACE, unix.RENAME_EXCHANGE}[g.rnd.IntN(5)]
		if g.opt.Devices && g.rnd.IntN(8) == 0 {
			o.Flags = o.Flags&unix.RENAME_NOREPLACE | unix.RENAME_WHITEOUT
		}
	}},
	{OpSymlink, 20, func(g *generator, o *Op) { o.Path, o.Path2 = []byte(g.newPath()), []byte(linkTarget(g.rnd)) }},
	{OpReadlink, 10, func(g *generator, o *Op) { o.Path = []byte(g.one(g.links)) }},
	{OpMknod, 14, func(g *generator, o *Op) {
		o.Path = []byte(g.newPath())
		o.Mode = []uint32{unix.S_IFIFO, unix.S_IFSOCK, unix.S_IFREG}[g.rnd.IntN(3)]
		if g.opt.Devices && g.rnd.IntN(4) == 0 {
			o.Mode, o.Off = unix.S_IFCHR, int64(unix.Mkdev(1, uint32(3+2*g.rnd.IntN(2))))
		}
		o.Mode |= g.perm(filePerms, 0o600)
	}},
	{OpChmod, 25, func(g *generator, o *Op) { o.Path, o.Mode = []byte(g.any()), g.perm(bothPerms, 0o700) }},
	{OpFchmod, 12, func(g *generator, o *Op) { o.Mode = g.perm(filePerms, 0o700) }},
	{OpChown, 20, func(g *generator, o *Op) { anyPath(g, o); o.UID, o.GID = g.id(), g.id() }},
	{OpFchown, 8, func(g *generator, o *Op) { o.UID, o.GID = g.id(), g.id() }},
	{OpUtimes, 25, func(g *generator, o *Op) { anyPath(g, o); o.At, o.Mt = g.time(), g.time() }},
	{OpFutimes, 8, func(g *generator, o *Op) { o.At, o.Mt = g.time(), g.time() }},
	{OpSetxattr, 25, func(g *generator, o *Op) {
		anyPath(g, o)
		o.Path2, o.Len = g.attr(), g.rnd.Int64N(40)
		o.Flags |= g.rnd.IntN(4)
	}},
	{OpFsetxattr, 10, func(g *generator, o *Op) { o.Path2, o.Len = g.attr(), g.rnd.Int64N(40) }},
	{OpGetxattr, 20, func(g *generator, o *Op) { anyPath(g, o); o.Path2, o.Len = g.attr(), g.rnd.Int64N(60) }},
	{OpListxattr, 12, anyPath},
	{OpRmxattr, 12, func(g *generator, o *Op) { anyPath(g, o); o.Path2 = g.attr() }},
	{OpStat, 50, anyPath},
	{OpFstat, 30, none},
	{OpAccess, 15, func(g *generator, o *Op) { anyPath(g, o); o.Mode = uint32(g.rnd.IntN(8)) }},
	{OpUmask, 6, func(g *generator, o *Op) { o.Mode = []uint32{0, 0o22, 0o77, 0o02}[g.rnd.IntN(4)] }},
	{OpStatfs, 3, anyPath},
	{OpFlock, 10, func(g *generator, o *Op) {
		o.Flags = [...]int{unix.LOCK_SH, unix.LOCK_EX, unix.LOCK_UN}[g.rnd.IntN(3)]
	}},
	{OpSetlk, 10, lockRange},
	{OpGetlk, 5, func(g *generator, o *Op) { lockRange(g, o); o.Mode = uint32(g.rnd.IntN(2)) }},
	{OpOpendir, 20, func(g *generator, o *Op) { o.Path = []byte(g.dir()) }},
	{OpReaddir, 50, func(g *generator, o *Op) { o.Len = 1 + g.rnd.Int64N(6) }},
	{OpSeekdir, 12, func(g *generator, o *Op) { o.Off = g.rnd.Int64N(8) }},
}

func lockRange(g *generator, o *Op) {
	o.Mode = uint32([...]int{unix.F_RDLCK, unix.F_WRLCK, unix.F_UNLCK}[g.rnd.IntN(3)])
	o.Off, o.Len = g.rnd.Int64N(100), g.rnd.Int64N(100)
}

var (
	bothPerms   = append(append([]uint32(nil), dirPerms...), filePerms...)
	fallocModes = []int{
		0, unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_PUNCH_HOLE, // without keeping the size: refused
		unix.FALLOC_FL_ZERO_RANGE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE,
		unix.FALLOC_FL_COLLAPSE_RANGE, unix.FALLOC_FL_INSERT_RANGE,
	}
)

// attr is the name of an attribute.
func (g *generator) attr() []byte {
	switch n := g.rnd.IntN(30); {
	case n == 0:
		return []byte("user.")
	case n == 1:
		return []byte("nonsense")
	case n == 2:
		return []byte("nonsense.x")
	case n == 3 && g.opt.Trusted:
		return []byte("trusted.a")
	case n == 4 && g.opt.Trusted:
		return []byte(fileCaps)
	case n == 5 && g.opt.ACLs:
		return []byte(aclAccess)
	case n == 6 && g.opt.ACLs:
		return []byte(aclDefault)
	}
	return fmt.Appendf(nil, "user.%c", 'a'+g.rnd.IntN(3))
}
