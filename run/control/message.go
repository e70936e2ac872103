package control

import (
	"time"

	"mica/layerstore"
)

// Op is what a request asks for.
type Op string

// The operations. Streaming ones go on after their OK.
const (
	OpStart   Op = "start"  // the first request, over the inherited socket; with Attach it streams
	OpAttach  Op = "attach" // streams until the main process ends
	OpExec    Op = "exec"   // streams until the new process ends, unless Detach
	OpSignal  Op = "signal" // to the main process
	OpStop    Op = "stop"   // answers when the container has ended
	OpPause   Op = "pause"  // answers when all processes are stopped
	OpUnpause Op = "unpause"
	OpWait    Op = "wait"     // Exit when the container has ended, or a run of it
	OpResize  Op = "resize"   // the main process's terminal
	OpPids    Op = "pids"     // [PidList]
	OpCommit  Op = "commit"   // [CommitResult]
	OpDiff    Op = "diff"     // Items of [DiffItem], then End
	OpCopyOut Op = "copy-out" // Data, then End: a tar of one path
	OpCopyIn  Op = "copy-in"  // OK; then Data and End from the client, a tar for one directory; then End
	OpStat    Op = "stat"     // OK [PathStat], or null where there is none
	OpSize    Op = "size"     // OK [SizeResult]
	OpSync    Op = "sync"     // OK when what programs put into mapped pages is on disk
)

// Request asks the supervisor for one operation.
type Request struct {
	Op      Op
	Start   *Start       `json:",omitempty"`
	Attach  *Attach      `json:",omitempty"`
	Exec    *Exec        `json:",omitempty"`
	Signal  int          `json:",omitempty"`
	Timeout *float64     `json:",omitempty"` // seconds before a stop kills
	Keep    bool         `json:",omitempty"` // a stop is followed by a start: the container is not removed
	ForGood bool         `json:",omitempty"` // wait for an end after which no policy starts it again
	Size    *Size        `json:",omitempty"`
	Commit  *Commit      `json:",omitempty"`
	Path    string       `json:",omitempty"` // in the container
	Copy    *CopyOptions `json:",omitempty"`
}

// Start tells the supervisor what only the command knows that started it.
type Start struct {
	Root    string   // of the store
	Dir     string   // of the container
	Lowers  []string // the image's layers, topmost first
	Attach  *Attach  `json:",omitempty"`
	Restart bool     `json:",omitempty"` // not the container's first start
}

// Attach says which streams a client wants.
type Attach struct {
	Stdin, Stdout, Stderr bool
	Size                  *Size `json:",omitempty"` // of the client's terminal
}

// Size of a terminal in character cells.
type Size struct{ Rows, Cols uint16 }

// Exec describes a further process.
type Exec struct {
	Args       []string
	Env        []string `json:",omitempty"` // over that of the container
	WorkingDir string   `json:",omitempty"`
	User       string   `json:",omitempty"`
	TTY        bool     `json:",omitempty"`
	Privileged bool     `json:",omitempty"`
	Detach     bool     `json:",omitempty"`
	Stdin      bool     `json:",omitempty"`
	Size       *Size    `json:",omitempty"`
}

// Commit asks for an image of the container as it is.
type Commit struct {
	Options layerstore.CommitOptions
	Pause   bool
}

// CommitResult names the image made.
type CommitResult struct{ ID string }

// DiffItem is one line of `diff`.
type DiffItem struct{ Kind, Path string }

// PidList lists the processes of a container as the host numbers them.
type PidList struct{ Pids []int }

// SizeResult is the size of a container's own layer.
type SizeResult struct{ Upper int64 }

// PathStat describes one path in a container.
type PathStat struct {
	Name   string
	Mode   uint32 // as in st_mode
	Size   int64
	Mtime  time.Time
	Target string `json:",omitempty"` // of a symlink
}

// IsDir tells whether the path is a directory.
func (s *PathStat) IsDir() bool { return s.Mode&0o170000 == 0o040000 }

// CopyOptions say how files are copied.
type CopyOptions struct {
	Name       string `json:",omitempty"` // of the path in the archive; empty: its content at the top
	FollowLink bool   `json:",omitempty"`
	Archive    bool   `json:",omitempty"` // keep owners
}

// Exit says how a process ended.
type Exit struct{ Code int }

// Error is an error of the supervisor. Code is the exit code that it asks for, 0 for the usual one.
type Error struct {
	Code    int `json:",omitempty"`
	Message string
}

// Error is the message.
func (e *Error) Error() string { return e.Message }
