package sandbox

import (
	"context"
	"os"
	"time"
)

// Config describes one sandbox. Only Root and Process.Args are required.
type Config struct {
	IDs      IDMap  // zero: what ResolveIDs(IDsAuto) gives
	Hostname string // empty: the host's name stays
	Domain   string // of the kernel's domain name; empty: the host's stays

	Shared Shared
	Cgroup *os.File // the cgroup in which the sandbox runs; nil: that of this process

	Network Network
	Ports   []Port // NetworkPasta only

	// HostAtGateway leads to the host what is sent to its default gateway: NetworkPasta only, where the host's own addresses are
	// the sandbox's.
	HostAtGateway bool

	Root         Root
	ReadOnlyRoot bool
	Mounts       []Mount // in this order, after the standard ones
	Files        []File
	Devices      []Device
	ShmSize      int64   // bytes of /dev/shm; 0: 64 MiB
	Umask        *uint32 // nil: 022
	OOMScoreAdj  *int    // nil: as this process

	// MaskedPaths and ReadOnlyPaths: nil means DefaultMaskedPaths and DefaultReadOnlyPaths, empty means none.
	MaskedPaths   []string
	ReadOnlyPaths []string

	Caps       Caps
	Seccomp    Seccomp
	NoNewPrivs bool // processes never gain privileges by set-id programs or file capabilities
	Rlimits    []Rlimit
	Sysctls    []Sysctl // of the sandbox's own namespaces

	// EmulateIDs lets processes change to users and groups that do not exist, where the sandbox has only one: see package
	// ids. It has no effect where there are more.
	EmulateIDs bool

	Process Spec // the main process

	// Ahead is an init that was started before the rest was known. It is used if it is of the right kind, and ended if not.
	Ahead *Ahead
}

// OwnerFunc gives the owner of files that a process makes, by the id of one of its threads inside the sandbox, as it stands
// in a request of the FUSE protocol. ok is false when that is who the kernel takes the process for.
type OwnerFunc func(tid uint32) (uid, gid uint32, ok bool)

// Server serves a FUSE mount of a sandbox. An [mica/fs.Server] is one.
type Server interface {
	// Serve is called once, in a goroutine of its own, with a /dev/fuse descriptor that was opened and mounted inside the
	// sandbox's user namespace; the requests carry the ids of that namespace. It owns dev and returns when the mount is
	// gone. When it returns while the sandbox runs, the sandbox is killed.
	Serve(dev *os.File) error
	// WriteBack returns when the server has got what programs have put into mapped pages of files with some inode numbers.
	WriteBack(inodes []uint64) error
	// Drain returns when the kernel has no request for the server, or after limit.
	Drain(limit time.Duration)
	// AbandonWhenIdle makes Serve return, by and by, when files of the mount that were handed out of a sandbox that has
	// ended keep it from being unmounted. It returns when Serve has.
	AbandonWhenIdle(idle time.Duration)
}

// Root is the filesystem that becomes "/". Either Dir or Server is set.
type Root struct {
	Dir string // directory on the host that is bind mounted, with what is mounted below it

	Server Server
	// Owner, if set, is called before Server.Serve where ids are emulated, with what tells the owners of new files until
	// Serve returns.
	Owner func(OwnerFunc)
	// FUSEOptions follow "fd=,rootmode=40000,user_id=0,group_id=0" in the options of mount(2), for example
	// "default_permissions,allow_other,max_read=1048576".
	FUSEOptions string
	// Token authorizes the requests of package idcall to the root's server. Without it emulated owners are not recorded.
	Token string
}

// MountKind says what a Mount puts at its target.
type MountKind int

const (
	MountBind  MountKind = iota // Source, a path on the host, with what is mounted below it
	MountTmpfs                  // an empty tmpfs; Source is ignored
	MountFUSE                   // what Server serves; Source is ignored
)

// Mount is one mount on top of the root.
type Mount struct {
	Kind     MountKind
	Source   string
	Target   string // absolute path in the sandbox; created when missing (a file when the source is one)
	ReadOnly bool   // MountBind: everything below the source too
	NoExec   bool
	NoDev    bool
	NoSuid   bool
	Straight bool   // MountBind: the source is opened by OpenSource
	Options  string // MountTmpfs: options of tmpfs such as "size=64m,mode=1777"; empty: mode=1777 without a size

	Subpath string // MountFUSE: what of the mount is shown at the target, a directory or a file; empty: all of it

	Server Server `json:"-"` // of a MountFUSE; its ids are those of the sandbox
}

// File is a generated file that is mounted over its target, so that the root itself does not change apart from an empty
// mount point where there was none.
type File struct {
	Target  string
	Content []byte
	Source  string // file on the host to mount instead of Content
	Mode    uint32 // of Content; 0: 0644
}

// Device gives a device node of the host to the sandbox.
type Device struct {
	Source string // on the host
	Target string // in the sandbox; empty: as Source
}

// Shared are the namespaces that the sandbox has in common with the host.
type Shared struct {
	IPC    bool // System V IPC and message queues, and /dev/shm
	UTS    bool // the host's name, which is not to be set then
	Cgroup bool
}

// Network is what the sandbox sees of the network.
type Network int

const (
	NetworkHost  Network = iota // the host's own
	NetworkNone                 // a loopback interface
	NetworkPasta                // a namespace that pasta(1) connects to the host's network
)

// Port forwards a port of the host to one in the sandbox.
type Port struct {
	HostIP   string // empty: all addresses
	Host     uint16
	Sandbox  uint16
	Protocol string // "tcp" (or empty), "udp"
}

// Rlimit is a resource limit of every process in the sandbox.
type Rlimit struct {
	Resource int // unix.RLIMIT_*
	Soft     uint64
	Hard     uint64
}

// Sysctl is a parameter of the kernel, such as net.core.somaxconn.
type Sysctl struct{ Name, Value string }

// User is what a process runs as, in ids of the sandbox.
type User struct {
	UID, GID uint32
	Groups   []uint32 // supplementary

	// KeepGroups leaves a process the supplementary groups of the user of the host, for what is mounted from there; Groups
	// is ignored then.
	KeepGroups bool
}

// Size of a terminal in character cells.
type Size struct{ Rows, Cols uint16 }

// Spec describes a process to start.
type Spec struct {
	Args []string // Args[0] is looked up in the PATH of Env, inside the sandbox, when it has no slash
	Env  []string // KEY=value; all of it
	Cwd  string   // absolute; empty: "/"
	User User

	TTY  bool // a new terminal in the sandbox is standard input, output and error; see Process.TTY
	Size Size // of the terminal; zero: 24 x 80

	// Standard descriptors when TTY is off, given to the process as they are; nil: /dev/null. Directories are refused,
	// because a directory descriptor of the host is a way out of the sandbox.
	Stdin, Stdout, Stderr *os.File

	Caps       *Caps // nil: those of the Config
	Unconfined bool  // without the seccomp filter of the Config
	NoNewPrivs bool  // in addition to Config.NoNewPrivs
}

// ExitStatus tells how a process ended.
type ExitStatus struct {
	Code   int // exit code, or 128+n when signal n ended it
	Signal int // 0, or the signal
	Core   bool
}

// StartError is an error of starting a process that has an exit code of its own by convention: 127 when the command was
// not found, 126 when it cannot be executed.
type StartError struct {
	Code int
	Msg  string
}

func (e *StartError) Error() string { return e.Msg }

// Start starts a sandbox and its main process. It returns when the main process runs; ctx limits only this. After
// an error nothing is left running. The error is a *StartError when the command is at fault.
func Start(ctx context.Context, cfg *Config) (*Sandbox, error) { return start(ctx, cfg) }
