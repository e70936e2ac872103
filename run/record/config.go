package record

import (
	"slices"
	"time"

	"mica/layerstore"
)

// Config is how a container was made. Only its name changes later.
type Config struct {
	ID      string // 64 hexadecimal digits
	Name    string
	Created time.Time
	Image   string // as it was asked for: a name, an ID, or "host"
	ImageID string // "sha256:HEX"; empty for the built-in image "host"

	// HostBase puts the machine's own root below the image's layers.
	HostBase bool `json:",omitempty"`

	// Container is the image's configuration with what the command line
	// changed. It is what a commit starts from.
	Container layerstore.ContainerConfig

	TTY       bool
	OpenStdin bool
	KeepStdin bool `json:",omitempty"` // the end of a client's input is not that of the container's
	Host      HostConfig

	// Step says that the container is for one step of a build. It goes with the process that made it, whether it runs or not.
	Step Step `json:",omitempty"`
}

// Volatile tells that nothing of the container needs to outlive a crash of the machine.
func (c *Config) Volatile() bool { return c.Host.AutoRemove || c.Step != "" }

// Step is what a step of a build does in a container.
type Step string

const (
	StepFiles   Step = "files"   // files are written or read: it never runs, and has no mount points
	StepCommand Step = "command" // a command runs; the places of its mounts are no change of the container's, unless HostBase is set
)

// HostConfig is what a container asks of the machine rather than of its image.
type HostConfig struct {
	AutoRemove   bool            `json:",omitempty"` // remove the container when it has ended
	ReadOnly     bool            `json:",omitempty"` // the root filesystem is read-only
	Privileged   bool            `json:",omitempty"`
	UserNS       string          `json:",omitempty"` // auto, single, full, keep-id
	GroupAdd     []string        `json:",omitempty"`
	Network      string          `json:",omitempty"` // host, none, pasta
	Share        []string        `json:",omitempty"` // namespaces of the machine that it has: ipc, uts, cgroup
	Ports        []Port          `json:",omitempty"`
	CapAdd       []string        `json:",omitempty"`
	CapDrop      []string        `json:",omitempty"`
	SecurityOpt  []string        `json:",omitempty"`
	Ulimits      []Ulimit        `json:",omitempty"`
	Sysctls      [][2]string     `json:",omitempty"` // name and value
	ShmSize      int64           `json:",omitempty"` // bytes; 0: the default
	Umask        *uint32         `json:",omitempty"` // nil: the default
	OOMScoreAdj  *int            `json:",omitempty"`
	Timeout      int             `json:",omitempty"` // seconds after which it is killed
	NoHosts      bool            `json:",omitempty"` // /etc/hosts is the image's
	TimeZone     string          `json:",omitempty"` // by its name, or "local"; empty: the image's
	ExtraHosts   []string        `json:",omitempty"` // "NAME:ADDRESS"
	DNS          []string        `json:",omitempty"`
	DNSSearch    []string        `json:",omitempty"`
	DNSOptions   []string        `json:",omitempty"`
	Devices      []DeviceMapping `json:",omitempty"`
	Mounts       []Mount         `json:",omitempty"`
	VolumesFrom  []string        `json:",omitempty"` // containers whose mounts are among these: "NAME" or "NAME:ro"
	Restart      RestartPolicy
	StopSignal   string  `json:",omitempty"`
	Memory       int64   `json:",omitempty"` // bytes
	CPUs         float64 `json:",omitempty"`
	PidsLimit    int64   `json:",omitempty"`
	CgroupParent string  `json:",omitempty"` // the delegated group that the limits are set in
	Log          Log

	Desktop *Desktop `json:",omitempty"` // nil: the container has nothing to do with it
}

// Log says how the output of the main process is kept.
type Log struct {
	None    bool  `json:",omitempty"` // not at all
	MaxSize int64 `json:",omitempty"` // bytes of one file, at which another one begins; 0: any
	Files   int   `json:",omitempty"` // how many there are then, with the current one; 0: one
}

// Port is a port of the host that leads to one of the container.
type Port struct {
	HostIP    string `json:",omitempty"`
	Host      uint16
	HostLast  uint16 `json:",omitempty"` // until one is chosen: the last of those that it may be
	Container uint16
	Protocol  string // tcp, udp
}

// Ulimit is a resource limit by its name in Docker's syntax: "nofile".
type Ulimit struct {
	Name       string
	Soft, Hard int64 // -1: unlimited
}

// DeviceMapping gives the container a device node of the host.
type DeviceMapping struct{ Source, Target string }

// MountType says what is mounted.
type MountType string

// The types of a [Mount].
const (
	MountBind   MountType = "bind"   // a path of the host
	MountVolume MountType = "volume" // a volume of the store
	MountTmpfs  MountType = "tmpfs"  // memory
	MountImage  MountType = "image"  // the tree of an image of the store
)

// Mount is one mount that the user or the image asked for.
type Mount struct {
	Type      MountType
	Volume    string `json:",omitempty"` // name of the volume
	Anonymous bool   `json:",omitempty"` // made for this container, removed with it
	Image     string `json:",omitempty"` // that an image mount shows, "sha256:HEX" once the container is made
	Subpath   string `json:",omitempty"` // of the image's tree; empty: all of it
	File      bool   `json:",omitempty"` // what an image mount shows is no directory
	Overlay   bool   `json:",omitempty"` // of a directory: what is written goes to a layer above it, which goes with this run of the container
	Source    string `json:",omitempty"` // on the host; that of a bind mount leads through no symlink
	Target    string
	ReadOnly  bool   `json:",omitempty"`
	NoCopy    bool   `json:",omitempty"` // do not fill an empty volume from the image
	Options   string `json:",omitempty"` // of a tmpfs, as mount(8) takes them
	NoExec    bool   `json:",omitempty"`
	NoSuid    bool   `json:",omitempty"`
	NoDev     bool   `json:",omitempty"`
}

// IsUnion tells whether the mount is a union of its own, which the container's supervisor serves.
func (m *Mount) IsUnion() bool { return m.Type == MountImage || m.Overlay }

// Needs tells whether the container cannot be run without an image.
func (c *Config) Needs(imageID string) bool {
	return c.ImageID == imageID ||
		slices.ContainsFunc(c.Host.Mounts, func(m Mount) bool { return m.Type == MountImage && m.Image == imageID })
}

// RestartPolicy says whether the main process is started again when it ends.
type RestartPolicy struct {
	Name       string `json:",omitempty"` // "" or no, on-failure, always, unless-stopped
	MaxRetries int    `json:",omitempty"` // of on-failure; 0: no limit
}

// String is the policy as the command line has it.
func (p RestartPolicy) String() string {
	if p.Name == "" {
		return "no"
	}
	return p.Name
}

// SharesNetwork tells whether the network is the machine's own.
func (h *HostConfig) SharesNetwork() bool { return h.Network == "" || h.Network == "host" }

// Args is the command line of the main process: entry point, then command.
func (c *Config) Args() []string {
	args := make([]string, 0, len(c.Container.Entrypoint)+len(c.Container.Cmd))
	return append(append(args, c.Container.Entrypoint...), c.Container.Cmd...)
}
