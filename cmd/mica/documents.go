package main

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"mica/layerstore"
	"mica/run"
	"mica/run/record"
	"mica/run/volume"
)

// The documents that inspect prints have the shape of Docker's, so that
// templates written for it work. Docker's templates know some fields by
// another name than its JSON: that one is a method here.

type containerDoc struct {
	Id              string
	Created         string
	Path            string
	Args            []string
	State           stateDoc
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	HostConfig      hostConfigDoc
	GraphDriver     graphDriverDoc
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      *int64 `json:",omitempty"`
	Mounts          []mountDoc
	Config          configDoc
	NetworkSettings networkDoc
}

// ID is the field Id.
func (d *containerDoc) ID() string { return d.Id }

type stateDoc struct {
	Status                                       string
	Running, Paused, Restarting, OOMKilled, Dead bool
	Pid, ExitCode                                int
	Error                                        string
	StartedAt, FinishedAt                        string
	Health                                       *healthDoc `json:",omitempty"`
}

type healthDoc struct {
	Status        string
	FailingStreak int
	Log           []healthResultDoc
}

type healthResultDoc struct {
	Start, End string
	ExitCode   int
	Output     string
}

func healthDocument(h *record.Health) *healthDoc {
	if h == nil {
		return nil
	}
	doc := &healthDoc{h.Status, h.FailingStreak, []healthResultDoc{}}
	for _, r := range h.Log {
		doc.Log = append(doc.Log, healthResultDoc{moment(r.Start), moment(r.End), r.ExitCode, r.Output})
	}
	return doc
}

// moment is a time as Docker's documents have it: also a template shows it so, for scripts to read.
func moment(t time.Time) string { return t.Format(time.RFC3339Nano) }

type hostConfigDoc struct {
	AutoRemove, Privileged, ReadonlyRootfs, Init bool
	NetworkMode, UsernsMode, PidMode             string
	IpcMode, UTSMode, CgroupnsMode               string
	RestartPolicy                                restartDoc
	CapAdd, CapDrop, SecurityOpt, GroupAdd       []string
	Dns, DnsSearch, DnsOptions, ExtraHosts       []string
	PortBindings                                 map[string][]bindingDoc
	Ulimits                                      []record.Ulimit
	Devices                                      []record.DeviceMapping
	Binds                                        []string
	Tmpfs                                        map[string]string
	ShmSize, Memory, NanoCpus, PidsLimit         int64
	MemorySwap, CpuShares                        int64
	OomScoreAdj                                  int
	LogConfig                                    logDoc
	Sysctls                                      map[string]string
	VolumesFrom                                  []string
	Runtime                                      string
}

// NanoCPUs is the field NanoCpus.
func (d hostConfigDoc) NanoCPUs() int64 { return d.NanoCpus }

// CPUShares is the field CpuShares.
func (d hostConfigDoc) CPUShares() int64 { return d.CpuShares }

// DNS is the field Dns.
func (d hostConfigDoc) DNS() []string { return d.Dns }

// DNSSearch is the field DnsSearch.
func (d hostConfigDoc) DNSSearch() []string { return d.DnsSearch }

// DNSOptions is the field DnsOptions.
func (d hostConfigDoc) DNSOptions() []string { return d.DnsOptions }

type logDoc struct {
	Type   string
	Config map[string]string
}

func logDocument(l record.Log) logDoc {
	doc := logDoc{Type: "json-file", Config: make(map[string]string)}
	if l.None {
		doc.Type = "none"
	}
	if l.MaxSize > 0 {
		doc.Config["max-size"] = strconv.FormatInt(l.MaxSize, 10)
	}
	if l.Files > 0 {
		doc.Config["max-file"] = strconv.Itoa(l.Files)
	}
	return doc
}

type restartDoc struct {
	Name              string
	MaximumRetryCount int
}

type bindingDoc struct{ HostIp, HostPort string }

// HostIP is the field HostIp.
func (d bindingDoc) HostIP() string { return d.HostIp }

type graphDriverDoc struct {
	Name string
	Data map[string]string
}

type mountDoc struct {
	Type, Name, Source, Destination, Driver, Mode string
	RW                                            bool
	Propagation                                   string
}

// configDoc is the container's configuration with what only it has.
type configDoc struct {
	layerstore.ContainerConfig
	Hostname, Domainname       string
	AttachStdin                bool
	AttachStdout, AttachStderr bool
	Tty, OpenStdin, StdinOnce  bool
	Image                      string
	Entrypoint, Cmd, Env       []string
	User, WorkingDir           string
	Labels                     map[string]string
}

// networkDoc has addresses of a bridge, which mica has not, for templates that ask for them.
type networkDoc struct {
	Ports                                  map[string][]bindingDoc
	Networks                               map[string]endpointDoc
	IPAddress, Gateway, MacAddress, Bridge string
	SandboxID, SandboxKey                  string
}

// endpointDoc is a container's place in a network; addresses are as those of [networkDoc].
type endpointDoc struct {
	Aliases                          []string
	NetworkID, EndpointID            string
	IPAddress, Gateway, MacAddress   string
	GlobalIPv6Address, IPv6Gateway   string
	IPPrefixLen, GlobalIPv6PrefixLen int
}

// portsDocument has the ports that lead to the container while it runs, and, without any, those that it says it listens on.
func portsDocument(c *record.Container) map[string][]bindingDoc {
	ports := make(map[string][]bindingDoc)
	if !c.State.Alive() {
		return ports
	}
	for p := range c.Config.Container.ExposedPorts {
		ports[p] = nil
	}
	for _, p := range c.Config.Host.Ports {
		ports[containerSide(p)] = append(ports[containerSide(p)], bindingDoc{cmp.Or(p.HostIP, "0.0.0.0"), strconv.Itoa(int(p.Host))})
	}
	return ports
}

func containerDocument(e *run.Engine, c *record.Container) *containerDoc {
	cfg, st, h := c.Config, c.State, &c.Config.Host
	exposed := maps.Clone(cfg.Container.ExposedPorts)
	command := cfg.Args() // none, if its configuration is lost
	if len(command) == 0 {
		command = []string{""}
	}
	bindings := make(map[string][]bindingDoc)
	for _, p := range h.Ports {
		key := containerSide(p)
		bindings[key] = append(bindings[key], bindingDoc{p.HostIP, strconv.Itoa(int(p.Host))})
		if exposed == nil {
			exposed = make(map[string]struct{})
		}
		exposed[key] = struct{}{} // for Docker what is published is exposed
	}
	shm := h.ShmSize
	if shm == 0 {
		shm = 64 << 20
	}
	doc := &containerDoc{
		Id: cfg.ID, Created: moment(cfg.Created), Path: command[0], Args: command[1:], Image: cfg.ImageID, LogPath: c.LogPath(), Name: "/" + cfg.Name,
		RestartCount: st.Restarts, Driver: "mica", Platform: "linux",
		State: stateDoc{
			Status: string(st.Status), Running: st.Alive(), Paused: st.Status == record.Paused, Restarting: st.Status == record.Restarting, Dead: st.Status == record.Dead,
			Pid: st.PID, ExitCode: st.ExitCode, Error: st.Error, StartedAt: moment(st.StartedAt), FinishedAt: moment(st.FinishedAt), Health: healthDocument(st.Health),
		},
		HostConfig: hostConfigDoc{
			AutoRemove: h.AutoRemove, Privileged: h.Privileged, ReadonlyRootfs: h.ReadOnly, Init: true, NetworkMode: networkShown(cfg), UsernsMode: h.UserNS,
			RestartPolicy: restartDoc{h.Restart.String(), h.Restart.MaxRetries}, CapAdd: h.CapAdd, CapDrop: h.CapDrop, SecurityOpt: h.SecurityOpt,
			GroupAdd: h.GroupAdd, Dns: h.DNS, DnsSearch: h.DNSSearch, DnsOptions: h.DNSOptions, ExtraHosts: h.ExtraHosts, PortBindings: bindings,
			Ulimits: h.Ulimits, Devices: h.Devices, ShmSize: shm, Memory: h.Memory, NanoCpus: int64(h.CPUs * 1e9), PidsLimit: h.PidsLimit,
			LogConfig: logDocument(h.Log), Tmpfs: make(map[string]string), IpcMode: "private", CgroupnsMode: "private",
			Sysctls: make(map[string]string), VolumesFrom: h.VolumesFrom, Runtime: "mica",
		},
		GraphDriver:     graphDriverDoc{"mica", map[string]string{"UpperDir": c.Upper(), "WorkDir": c.Work()}},
		Mounts:          []mountDoc{},
		NetworkSettings: networkDoc{Ports: portsDocument(c), Networks: map[string]endpointDoc{networkShown(cfg): {}}},
		Config: configDoc{
			ContainerConfig: cfg.Container, Hostname: cfg.Container.Hostname, Domainname: cfg.Container.Domainname,
			AttachStdin: cfg.OpenStdin, AttachStdout: true, AttachStderr: true, Tty: cfg.TTY, OpenStdin: cfg.OpenStdin, StdinOnce: cfg.OpenStdin && !cfg.KeepStdin, Image: cfg.Image,
			Entrypoint: cfg.Container.Entrypoint, Cmd: cfg.Container.Cmd, Env: cfg.Container.Env, User: cfg.Container.User,
			WorkingDir: cfg.Container.WorkingDir, Labels: cfg.Container.Labels,
		},
	}
	doc.Config.ExposedPorts = exposed
	if h.OOMScoreAdj != nil {
		doc.HostConfig.OomScoreAdj = *h.OOMScoreAdj
	}
	for name, mode := range map[string]*string{"ipc": &doc.HostConfig.IpcMode, "uts": &doc.HostConfig.UTSMode, "cgroup": &doc.HostConfig.CgroupnsMode} {
		if slices.Contains(h.Share, name) {
			*mode = "host"
		}
	}
	for _, m := range h.Mounts {
		if m.Type == record.MountTmpfs {
			doc.HostConfig.Tmpfs[m.Target] = m.Options
			continue // Docker has it there alone
		}
		source := m.Source
		if m.Type == record.MountVolume {
			source = filepath.Join(e.Root(), "volumes", m.Volume, "_data")
		}
		mode := ""
		if m.ReadOnly {
			mode = "ro"
		}
		shown := mountDoc{Type: string(m.Type), Name: m.Volume, Source: source, Destination: m.Target, Mode: mode, RW: !m.ReadOnly}
		if m.Type == record.MountVolume {
			shown.Driver = "local"
		}
		if m.Type == record.MountBind {
			shown.Propagation = "rprivate"
			bind := m.Source + ":" + m.Target
			if m.ReadOnly {
				bind += ":ro"
			}
			doc.HostConfig.Binds = append(doc.HostConfig.Binds, bind)
		}
		doc.Mounts = append(doc.Mounts, shown)
	}
	for _, kv := range h.Sysctls {
		doc.HostConfig.Sysctls[kv[0]] = kv[1]
	}
	return doc
}

type imageDoc struct {
	Id           string
	RepoTags     []string
	RepoDigests  []string
	Parent       string
	Comment      string
	Created      string
	Author       string
	Config       layerstore.ContainerConfig
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64
	VirtualSize  int64
	GraphDriver  graphDriverDoc
	RootFS       rootFSDoc
	Metadata     metadataDoc
}

// ID is the field Id.
func (d *imageDoc) ID() string { return d.Id }

// metadataDoc has the time of the last tag, which the store does not keep.
type metadataDoc struct{ LastTagTime string }

type rootFSDoc struct {
	Type   string
	Layers []string
}

func imageDocument(e *run.Engine, img *layerstore.Image) *imageDoc {
	cfg := img.Config
	doc := &imageDoc{
		Id: img.ID, RepoTags: img.Names, RepoDigests: img.Digests, Created: moment(img.Created), Author: cfg.Author, Config: cfg.Config,
		Architecture: cfg.Architecture, Variant: cfg.Variant, Os: cfg.OS, Size: img.Size, VirtualSize: img.Size,
		GraphDriver: graphDriverDoc{"mica", map[string]string{"Root": e.Root()}}, RootFS: rootFSDoc{Type: "layers"}, Metadata: metadataDoc{moment(time.Time{})},
	}
	if doc.RepoTags == nil {
		doc.RepoTags = []string{}
	}
	if doc.RepoDigests == nil {
		doc.RepoDigests = []string{}
	}
	if n := len(cfg.History); n > 0 {
		doc.Comment = cfg.History[n-1].Comment
	}
	for _, id := range cfg.RootFS.DiffIDs {
		doc.RootFS.Layers = append(doc.RootFS.Layers, id.String())
	}
	return doc
}

type volumeDoc struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}

func volumeDocument(v *volume.Volume) *volumeDoc {
	return &volumeDoc{CreatedAt: moment(v.Created), Driver: "local", Labels: v.Labels, Mountpoint: v.Data, Name: v.Name, Scope: "local"}
}
