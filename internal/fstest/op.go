package fstest

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Code is what an [Op] does.
type Code string

// The operations. Those in F work on the open file of a slot.
const (
	OpOpen      Code = "open"
	OpTmpfile   Code = "tmpfile"
	OpClose     Code = "close"
	OpRead      Code = "read"
	OpPread     Code = "pread"
	OpWrite     Code = "write"
	OpPwrite    Code = "pwrite"
	OpSeek      Code = "lseek"
	OpTruncate  Code = "truncate"
	OpFtruncate Code = "ftruncate"
	OpFallocate Code = "fallocate"
	OpCopyRange Code = "copy_file_range"
	OpFsync     Code = "fsync"
	OpFdatasync Code = "fdatasync"
	OpSyncfs    Code = "syncfs"
	OpFadvise   Code = "fadvise"
	OpGetflags  Code = "getflags"
	OpScript    Code = "write-script"
	OpMmap      Code = "mmap"
	OpMapRead   Code = "mapread"
	OpMapWrite  Code = "mapwrite"
	OpMunmap    Code = "munmap"
	OpLink      Code = "link"
	OpLinkF     Code = "linkat-fd"
	OpUnlink    Code = "unlink"
	OpMkdir     Code = "mkdir"
	OpRmdir     Code = "rmdir"
	OpRename    Code = "rename"
	OpSymlink   Code = "symlink"
	OpReadlink  Code = "readlink"
	OpMknod     Code = "mknod"
	OpChmod     Code = "chmod"
	OpFchmod    Code = "fchmod"
	OpChown     Code = "chown"
	OpFchown    Code = "fchown"
	OpUtimes    Code = "utimensat"
	OpFutimes   Code = "futimens"
	OpSetxattr  Code = "setxattr"
	OpFsetxattr Code = "fsetxattr"
	OpGetxattr  Code = "getxattr"
	OpListxattr Code = "listxattr"
	OpRmxattr   Code = "removexattr"
	OpStat      Code = "stat"
	OpFstat     Code = "fstat"
	OpAccess    Code = "access"
	OpExec      Code = "exec"
	OpStatfs    Code = "statfs"
	OpFlock     Code = "flock"
	OpSetlk     Code = "ofd-setlk"
	OpGetlk     Code = "ofd-getlk"
	OpOpendir   Code = "opendir"
	OpReaddir   Code = "readdir"
	OpSeekdir   Code = "seekdir"
	OpUmask     Code = "umask"
	OpRemount   Code = "remount"
	OpCrash     Code = "fsync-all-and-kill"
	OpForget    Code = "drop-caches"
)

// Op is one operation. It can be done again in any other list of operations:
// what it refers to are paths and numbered slots, never state.
type Op struct {
	Code   Code
	Actor  int    `json:",omitempty"`
	Slot   int    `json:",omitempty"` // of the actor's open files
	Slot2  int    `json:",omitempty"` // second open file, or the mapping
	Dir    int    `json:",omitempty"` // 1 + slot of the open directory that Path is relative to
	Path   []byte `json:",omitempty"`
	Path2  []byte `json:",omitempty"` // second path, link target, or attribute name
	Off    int64  `json:",omitempty"`
	Off2   int64  `json:",omitempty"`
	Len    int64  `json:",omitempty"`
	Flags  int    `json:",omitempty"`
	Mode   uint32 `json:",omitempty"`
	UID    int    `json:",omitempty"`
	GID    int    `json:",omitempty"`
	Seed   uint64 `json:",omitempty"`
	At, Mt unix.Timespec
}

// String writes the operation in one line, with what matters to it.
func (o Op) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%d] %s", o.Actor, o.Code)
	word := func(format string, a ...any) { fmt.Fprintf(&b, " "+format, a...) }
	switch o.Code {
	case OpRemount, OpForget, OpCrash:
		return string(o.Code)
	}
	if o.usesSlot() {
		word("#%d", o.Slot)
	}
	if o.Code == OpCopyRange || o.Code == OpMmap || o.Code == OpMapRead || o.Code == OpMapWrite || o.Code == OpMunmap {
		word("#%d", o.Slot2)
	}
	if o.Dir != 0 {
		word("in #%d", o.Dir-1)
	}
	if o.Path != nil {
		word("%q", short(o.Path))
	}
	if o.Path2 != nil {
		word("%q", short(o.Path2))
	}
	if o.Flags != 0 {
		word("flags=%#x%s", o.Flags, o.flagNames())
	}
	if o.Mode != 0 {
		word("mode=%#o", o.Mode)
	}
	if o.Off != 0 || o.Len != 0 {
		word("off=%d len=%d", o.Off, o.Len)
	}
	if o.Off2 != 0 {
		word("off2=%d", o.Off2)
	}
	if o.Code == OpChown || o.Code == OpFchown {
		word("%d:%d", o.UID, o.GID)
	}
	if o.Code == OpUtimes || o.Code == OpFutimes {
		word("a=%d.%d m=%d.%d", o.At.Sec, o.At.Nsec, o.Mt.Sec, o.Mt.Nsec)
	}
	return b.String()
}

func short(p []byte) string {
	s := string(p)
	for _, c := range []string{"n", "m"} {
		s = strings.ReplaceAll(s, strings.Repeat(c, 251), "<"+c+"*251>")
	}
	return s
}

func (o Op) usesSlot() bool {
	switch o.Code {
	case OpOpen, OpTmpfile, OpClose, OpRead, OpPread, OpWrite, OpPwrite, OpSeek, OpFtruncate, OpFallocate,
		OpCopyRange, OpFsync, OpFdatasync, OpSyncfs, OpFadvise, OpGetflags, OpScript, OpMmap, OpLinkF, OpFchmod, OpFchown, OpFutimes, OpFsetxattr, OpFstat,
		OpFlock, OpSetlk, OpGetlk, OpOpendir, OpReaddir, OpSeekdir:
		return true
	}
	return false
}

func (o Op) flagNames() string {
	var names []string
	add := func(bit int, name string) {
		if o.Flags&bit == bit {
			names = append(names, name)
		}
	}
	switch o.Code {
	case OpOpen:
		names = append(names, [...]string{"RDONLY", "WRONLY", "RDWR", "?"}[o.Flags&3])
		add(unix.O_CREAT, "CREAT")
		add(unix.O_EXCL, "EXCL")
		add(unix.O_TRUNC, "TRUNC")
		add(unix.O_APPEND, "APPEND")
		add(unix.O_NOFOLLOW, "NOFOLLOW")
		add(unix.O_DIRECTORY, "DIRECTORY")
		add(unix.O_PATH, "PATH")
		add(unix.O_DIRECT, "DIRECT")
	case OpRename:
		add(unix.RENAME_NOREPLACE, "NOREPLACE")
		add(unix.RENAME_EXCHANGE, "EXCHANGE")
		add(unix.RENAME_WHITEOUT, "WHITEOUT")
	case OpFallocate:
		add(unix.FALLOC_FL_KEEP_SIZE, "KEEP_SIZE")
		add(unix.FALLOC_FL_PUNCH_HOLE, "PUNCH_HOLE")
		add(unix.FALLOC_FL_ZERO_RANGE, "ZERO_RANGE")
		add(unix.FALLOC_FL_COLLAPSE_RANGE, "COLLAPSE")
		add(unix.FALLOC_FL_INSERT_RANGE, "INSERT")
	default:
		return ""
	}
	return "(" + strings.Join(names, "|") + ")"
}

// Result is what an operation gave on one side.
type Result struct {
	Errno unix.Errno
	Val   string // what it returned, written so that equal means equal
	Ran   bool   // false when its slot was empty
}

func (r Result) String() string {
	if !r.Ran {
		return "(no such slot)"
	}
	s := "ok"
	if r.Errno != 0 {
		s = unix.ErrnoName(r.Errno)
	}
	if r.Val != "" {
		s += " " + r.Val
	}
	return s
}
