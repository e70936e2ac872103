package fs

import (
	"io"
	"time"
)

// Options say how a union is served.
type Options struct {
	// Permissions lets the kernel check modes and ACLs. Without it whoever may
	// use the mount may do all, as the owner of a mount for inspection wants.
	Permissions bool
	// ShowUID and ShowGID turn the owner that the union keeps into the one
	// that the mount shows, StoreUID and StoreGID the reverse. Nil changes
	// nothing.
	ShowUID, ShowGID, StoreUID, StoreGID func(uint32) uint32
	// Creds gives the identity of the process pid, where that is not what the
	// kernel believes.
	Creds func(pid uint32) (uid, gid uint32, ok bool)
	// Token authorizes the requests of package idcall.
	Token string
	// Writeback lets the kernel collect writes. It makes small writes cheap
	// and every stat after one a request.
	Writeback bool
	// Passthrough lets the kernel read and write files on disk itself where it
	// can (see CanPass). It makes large reads and writes cheap and every open
	// a request. Not together with Writeback.
	Passthrough bool
	// Timeout is how long the kernel may keep what it was told; 0 is for good.
	Timeout time.Duration
	// NoXattrs hides all extended attributes.
	NoXattrs bool
	// MaxWrite bounds one write in bytes; 0 is the most that the kernel has.
	MaxWrite int
	// Awake keeps processors of a small virtual machine from sleeping while
	// requests come close together. The program's main must call turns.AwakeMain.
	Awake bool
	// Debug receives a line for every request.
	Debug io.Writer
}

// forGood is the time for which the kernel keeps an answer that never goes
// stale, in seconds.
const forGood = 1 << 30
