package main

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mica/layerstore"
	"mica/run"
	"mica/run/generated"
	"mica/run/limits"
	"mica/run/record"
)

// containerFlags are the flags of run and create.
type containerFlags struct {
	name, entrypoint, workdir, user, hostname, domainname, stopSignal, network, userns, restart, cidfile, pull, platform string
	env, envFiles, volumes, mounts, tmpfs, labels, labelFiles, ports, expose, capAdd, capDrop, securityOpt, ulimits      []string
	addHosts, dns, dnsSearch, dnsOptions, devices, groupAdd, attach, volumesFrom                                         []string
	tty, interactive, remove, readOnly, privileged, initFlag, publishAll, detached                                       bool
	shmSize, memory, cpus                                                                                                string
	cpuQuota, cpuPeriod, pidsLimit                                                                                       int64
	stopTimeout                                                                                                          int
	logDriver, pid, ipc, uts, cgroupns                                                                                   string
	sysctls                                                                                                              []string
	quiet, replace, envHost, noHosts                                                                                     bool
	logOpts                                                                                                              []string
	registry                                                                                                             registryFlags
	unsetenv                                                                                                             []string
	umask, timezone                                                                                                      string
	timeout, oomScoreAdj                                                                                                 int
	health                                                                                                               healthFlags
	desk                                                                                                                 desktopFlags
}

func (f *containerFlags) register(fl *pflag.FlagSet) {
	fl.SetInterspersed(false)
	fl.StringVar(&f.name, "name", "", "name of the container")
	fl.StringVar(&f.entrypoint, "entrypoint", "", "command that the image's entry point is replaced by, several words as a JSON list; empty for none")
	fl.StringArrayVarP(&f.env, "env", "e", nil, "set a variable NAME=VALUE, or pass NAME on, or with NAME* all that begin so")
	fl.BoolVar(&f.envHost, "env-host", false, "pass all variables on, below those of the image")
	fl.StringArrayVar(&f.unsetenv, "unsetenv", nil, "leave out a variable of the image")
	fl.StringArrayVar(&f.envFiles, "env-file", nil, "read variables from a file, one per line")
	fl.StringVarP(&f.workdir, "workdir", "w", "", "working directory in the container")
	fl.StringVarP(&f.user, "user", "u", "", "user, and group after a colon, by name or number")
	fl.StringArrayVar(&f.groupAdd, "group-add", nil, "supplementary group, by name or number; keep-groups for your own")
	fl.StringVarP(&f.hostname, "hostname", "h", "", "host name in the container (default the short ID)")
	fl.StringVar(&f.domainname, "domainname", "", "domain name in the container")
	fl.StringArrayVarP(&f.volumes, "volume", "v", nil, "mount a host path or a named volume: SRC:DST[:ro]; SRC:DST:O keeps what is written for this run alone")
	fl.StringArrayVar(&f.mounts, "mount", nil, "mount: type=bind|volume|tmpfs|image,source=SRC,target=DST[,readonly]")
	fl.StringArrayVar(&f.volumesFrom, "volumes-from", nil, "mount what another container has mounted: NAME[:ro]")
	fl.StringArrayVar(&f.tmpfs, "tmpfs", nil, "mount an empty tmpfs: DST[:OPTIONS]")
	fl.BoolVar(&f.readOnly, "read-only", false, "mount the root filesystem read-only")
	fl.BoolVar(&f.remove, "rm", false, "remove the container when it ends")
	fl.BoolVarP(&f.interactive, "interactive", "i", false, "keep standard input open")
	fl.BoolVarP(&f.tty, "tty", "t", false, "give the command a terminal")
	fl.StringArrayVarP(&f.labels, "label", "l", nil, "set a label KEY=VALUE")
	fl.StringArrayVar(&f.labelFiles, "label-file", nil, "read labels from a file, one per line")
	fl.StringVar(&f.cidfile, "cidfile", "", "write the container's ID to this new file")
	fl.StringVar(&f.stopSignal, "stop-signal", "", "signal that stops the container")
	fl.IntVar(&f.stopTimeout, "stop-timeout", 10, "seconds before a stop kills the container")
	fl.StringVar(&f.restart, "restart", "no", "start again when it ends: no, on-failure[:N], always, unless-stopped")
	fl.StringVar(&f.network, "network", "", "host, none, or pasta (or bridge) for one of its own (default host; pasta with --publish)")
	fl.StringVar(&f.network, "net", "", "as --network")
	fl.StringArrayVarP(&f.ports, "publish", "p", nil, "lead a port of the host to the container: [[IP:][HOST]:]CONTAINER[/udp]; without HOST a free one")
	fl.BoolVarP(&f.publishAll, "publish-all", "P", false, "lead a free port of the host to each port that the image or --expose names")
	fl.StringArrayVar(&f.expose, "expose", nil, "note a port that the container listens on")
	fl.StringArrayVar(&f.addHosts, "add-host", nil, "add NAME:ADDRESS to /etc/hosts; the address host-gateway is this machine, which is then host.docker.internal and host.containers.internal too")
	fl.StringArrayVar(&f.dns, "dns", nil, "name server")
	fl.StringArrayVar(&f.dnsSearch, "dns-search", nil, "search domain")
	fl.StringArrayVar(&f.dnsOptions, "dns-option", nil, "resolver option")
	fl.Var(fl.Lookup("dns-option").Value, "dns-opt", "as --dns-option")
	fl.BoolVar(&f.noHosts, "no-hosts", false, "leave the image's /etc/hosts")
	fl.StringSliceVar(&f.capAdd, "cap-add", nil, "add capabilities, or ALL")
	fl.StringSliceVar(&f.capDrop, "cap-drop", nil, "drop capabilities, or ALL")
	fl.StringArrayVar(&f.securityOpt, "security-opt", nil, "no-new-privileges, seccomp=unconfined, seccomp=FILE, systempaths=unconfined")
	fl.BoolVar(&f.privileged, "privileged", false, "all capabilities of the container's user namespace, no system call filter, no masked paths; never more than your own rights")
	fl.StringVar(&f.userns, "userns", "auto", "ids in the container: auto (or host, private), full (subordinate ids), single, keep-id")
	fl.StringArrayVar(&f.ulimits, "ulimit", nil, "resource limit NAME=SOFT[:HARD]")
	fl.StringVar(&f.shmSize, "shm-size", "", "size of /dev/shm (default 64m)")
	fl.StringArrayVar(&f.devices, "device", nil, "give the container a device: SRC[:DST]")
	fl.StringVarP(&f.memory, "memory", "m", "", "limit of memory, such as 512m")
	fl.StringVar(&f.cpus, "cpus", "", "limit of processors, such as 1.5")
	fl.Int64Var(&f.cpuQuota, "cpu-quota", 0, "limit of processors: microseconds of them in each --cpu-period")
	fl.Int64Var(&f.cpuPeriod, "cpu-period", defaultCPUPeriod, "microseconds that --cpu-quota is of")
	fl.Int64Var(&f.pidsLimit, "pids-limit", 0, "limit of processes")
	fl.IntVar(&f.oomScoreAdj, "oom-score-adj", 0, "how readily the kernel ends the container when memory is short, up to 1000; a plain user can only raise it")
	fl.StringVar(&f.umask, "umask", "0022", "file mode creation mask")
	fl.StringVar(&f.timezone, "tz", "", "timezone, such as Europe/Berlin, or local for the machine's")
	fl.IntVar(&f.timeout, "timeout", 0, "seconds after which the container is killed")
	fl.StringVar(&f.logDriver, "log-driver", "json-file", "how output is kept for logs: json-file, or none")
	fl.StringArrayVar(&f.logOpts, "log-opt", nil, "limit what is kept: max-size=SIZE, such as 10m, or -1 for no limit, and max-file=N (default 20m and 5)")
	fl.BoolVar(&f.initFlag, "init", false, "accepted: there is always an init that reaps processes")
	fl.StringArrayVar(&f.sysctls, "sysctl", nil, "set a parameter of the kernel in the container's namespaces: NAME=VALUE")
	fl.BoolVar(&f.replace, "replace", false, "remove a container of the same name first")
	fl.BoolVarP(&f.quiet, "quiet", "q", false, "say nothing of a pull")
	fl.StringVar(&f.pid, "pid", "private", "accepted when it is private: a container has always process ids of its own")
	fl.StringVar(&f.ipc, "ipc", "private", "shared memory and message queues: private, or host for the machine's")
	fl.StringVar(&f.uts, "uts", "private", "host name: private, or host for the machine's")
	fl.StringVar(&f.cgroupns, "cgroupns", "private", "cgroup namespace: private, or host for the machine's")
	fl.StringVar(&f.pull, "pull", pullMissing, "ask a registry for the image: when it is missing, always, never, or newer (always, but what is here will do)")
	f.registry.register(fl)
	fl.StringVar(&f.platform, "platform", "", "accepted when it is this machine's")
	fl.StringArrayVarP(&f.attach, "attach", "a", nil, "attach to stdin, stdout or stderr only")
	f.health.register(fl)
	f.desk.register(fl)
	registerIdle(fl)
}

// idleFlags are those of Docker and Podman that ask for what mica does not do and a container can do without. Podman takes
// most of them without subordinate cgroups too.
var idleFlags = []string{
	"annotation", "blkio-weight", "cgroup-parent", "cpu-shares", "cpuset-cpus", "cpuset-mems", "device-cgroup-rule", "device-read-bps",
	"device-read-iops", "device-write-bps", "device-write-iops", "disable-content-trust", "ip", "ip6", "isolation", "kernel-memory", "mac-address",
	"memory-reservation", "memory-swap", "memory-swappiness", "network-alias", "oom-kill-disable", "runtime", "storage-opt", "volume-driver",
}

func registerIdle(fl *pflag.FlagSet) {
	for _, name := range idleFlags {
		switch name {
		case "disable-content-trust", "oom-kill-disable":
			fl.Bool(name, false, "")
		case "cpu-shares":
			fl.StringArrayP(name, "c", nil, "")
		default:
			fl.StringArray(name, nil, "")
		}
		_ = fl.MarkHidden(name)
	}
	fl.String("gpus", "", "")
	_ = fl.MarkHidden("gpus")
}

// noteIdle says which flags have no effect, and which options of logs.
func (f *containerFlags) noteIdle(fl *pflag.FlagSet) error {
	if fl.Changed("gpus") {
		return errors.New("--gpus: mica knows no driver's libraries: give the devices with --device and the libraries with -v, or choose --desktop for graphics")
	}
	var idle []string
	for _, name := range idleFlags {
		if fl.Changed(name) {
			idle = append(idle, "--"+name)
		}
	}
	for _, opt := range f.logOpts {
		if key, _, _ := strings.Cut(opt, "="); slices.Contains(idleLogOpts, key) {
			idle = append(idle, "--log-opt "+key)
		}
	}
	if len(idle) > 0 {
		fmt.Fprintln(os.Stderr, "mica: without effect:", strings.Join(idle, ", "))
	}
	return nil
}

// options puts the flags and arguments together: IMAGE [COMMAND...].
func (f *containerFlags) options(c *cobra.Command, args []string) (run.CreateOptions, error) {
	opt := run.CreateOptions{
		Image: args[0], Command: args[1:], Name: f.name, WorkingDir: f.workdir, User: f.user, Hostname: f.hostname, Domainname: f.domainname,
		StopSignal: f.stopSignal, TTY: f.tty, OpenStdin: f.interactive, KeepStdin: f.detached, PublishAll: f.publishAll,
		EnvHost: f.envHost, UnsetEnv: f.unsetenv,
		Host: record.HostConfig{
			AutoRemove: f.remove, ReadOnly: f.readOnly, Privileged: f.privileged, UserNS: f.userns, GroupAdd: f.groupAdd,
			CapAdd: f.capAdd, CapDrop: f.capDrop, ExtraHosts: f.addHosts, DNS: f.dns, DNSSearch: f.dnsSearch, DNSOptions: f.dnsOptions,
			NoHosts: f.noHosts, TimeZone: f.timezone, Timeout: max(f.timeout, 0), VolumesFrom: f.volumesFrom,
		},
	}
	h := &opt.Host
	changed := c.Flags().Changed
	if changed("entrypoint") {
		opt.Entrypoint = &f.entrypoint
	}
	if changed("stop-timeout") {
		opt.StopTimeout = &f.stopTimeout
	}
	if changed("umask") {
		mask, err := parseUmask(f.umask)
		if err != nil {
			return opt, err
		}
		h.Umask = &mask
	}
	if f.timezone != "" {
		if err := generated.CheckTimeZone(f.timezone); err != nil {
			return opt, err
		}
	}
	if changed("oom-score-adj") {
		h.OOMScoreAdj = &f.oomScoreAdj
	}
	steps := []func() error{
		func() error { return f.noteIdle(c.Flags()) },
		func() error { return checkPlatform(f.platform) },
		func() error { return checkStreams(f.attach) },
		func() error { return checkPull(f.pull) },
		func() (err error) { h.Log, err = parseLog(f.logDriver, f.logOpts); return },
		func() error { return checkDNS(f.dns) },
		func() (err error) { opt.Expose, err = normalPorts(f.expose); return },
		func() (err error) { opt.Env, err = readEnv(f.envFiles, f.env); return },
		func() (err error) { opt.Labels, err = readLabels(f.labelFiles, f.labels); return },
		func() (err error) { h.Mounts, err = parseMounts(f.volumes, f.mounts, f.tmpfs); return },
		func() (err error) { h.Ports, err = parsePorts(f.ports); return },
		func() (err error) { h.Ulimits, err = parseUlimits(f.ulimits); return },
		func() (err error) { h.Sysctls, err = parseSysctls(f.sysctls); return },
		func() (err error) { h.Share, err = f.shared(); return },
		func() (err error) { h.Devices, err = parseDevices(f.devices); return },
		func() (err error) { h.Restart, err = parseRestart(f.restart); return },
		func() (err error) { h.SecurityOpt, err = readSecurity(f.securityOpt); return },
		func() error { return f.setNetwork(&opt) },
		func() (err error) { opt.Healthcheck, err = f.health.check(c); return },
		func() error { return f.limits(h) },
		func() error { return f.desk.set(c.Flags(), &opt) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return opt, err
		}
	}
	if h.AutoRemove && h.Restart.String() != "no" {
		return opt, errors.New("--rm and --restart exclude each other: leave one out")
	}
	return opt, nil
}

// shared are the namespaces of the machine that the container is to have.
func (f *containerFlags) shared() ([]string, error) {
	if f.pid != "" && f.pid != "private" {
		return nil, fmt.Errorf("--pid %q: a container has its own: want private, or leave it out", f.pid)
	}
	var list []string
	for _, ns := range []struct{ flag, mode, name string }{{"ipc", f.ipc, "ipc"}, {"uts", f.uts, "uts"}, {"cgroupns", f.cgroupns, "cgroup"}} {
		switch ns.mode {
		case "", "private":
		case "host":
			list = append(list, ns.name)
		default:
			return nil, fmt.Errorf("--%s %q: want private or host", ns.flag, ns.mode)
		}
	}
	if f.uts == "host" && (f.hostname != "" || f.domainname != "") {
		return nil, errors.New("--uts host and --hostname or --domainname exclude each other: leave one out")
	}
	return list, nil
}

// publishes tells whether ports of the host lead to the container.
func (f *containerFlags) publishes() bool { return f.publishAll || len(f.ports) > 0 }

// limits reads sizes and limits. As for Docker, 0 is none.
func (f *containerFlags) limits(h *record.HostConfig) error {
	if f.shmSize != "" {
		n, err := units.RAMInBytes(f.shmSize)
		if err != nil || n < 0 {
			return fmt.Errorf("--shm-size %q: want a size such as 64m", f.shmSize)
		}
		h.ShmSize = n
	}
	if f.memory != "" {
		n, err := units.RAMInBytes(f.memory)
		if err != nil || n != 0 && n < 6<<20 {
			return fmt.Errorf("--memory %q: want a size of at least 6m", f.memory)
		}
		h.Memory = n
	}
	if f.cpus != "" {
		var err error
		if h.CPUs, err = strconv.ParseFloat(f.cpus, 64); err != nil || !(h.CPUs >= 0) || math.IsInf(h.CPUs, 0) {
			return fmt.Errorf("--cpus %q: want a number such as 1.5", f.cpus)
		}
	}
	if f.cpuQuota > 0 {
		period := cmp.Or(f.cpuPeriod, defaultCPUPeriod)
		switch {
		case f.cpus != "":
			return errors.New("--cpus and --cpu-quota exclude each other: leave one out")
		case period < 1000 || period > 1_000_000:
			return fmt.Errorf("--cpu-period %d: want microseconds from 1000 to 1000000", period)
		}
		h.CPUs = float64(f.cpuQuota) / float64(period)
	}
	h.PidsLimit = max(f.pidsLimit, 0)
	if h.Memory != 0 || h.CPUs != 0 || h.PidsLimit != 0 {
		return limits.Check(h)
	}
	return nil
}

// defaultCPUPeriod is the kernel's, in microseconds.
const defaultCPUPeriod = 100_000

const ownPlatform = runtime.GOOS + "/" + runtime.GOARCH

// checkPlatform refuses platforms that this machine is not.
func checkPlatform(p string) error {
	if p == "" {
		return nil
	}
	want, err := layerstore.ParsePlatform(p)
	if err != nil {
		return err
	}
	if want.OS == runtime.GOOS && want.Architecture == runtime.GOARCH {
		return nil
	}
	return fmt.Errorf("platform %q: this machine runs %s only", p, ownPlatform)
}

// setNetwork chooses the network. Without one of its own a container has no ports to lead to, which those who say both do
// not mind: Docker takes it too.
func (f *containerFlags) setNetwork(opt *run.CreateOptions) (err error) {
	h := &opt.Host
	if h.Network, err = chooseNetwork(f.network, f.publishes()); err != nil {
		return err
	}
	if f.publishes() && h.Network != "pasta" {
		fmt.Fprintf(os.Stderr, "mica: published ports are discarded: with --network %s there is nothing to lead to\n", h.Network)
		h.Ports, opt.PublishAll = nil, false
	}
	return nil
}

// chooseNetwork is the network by the name that it has in records.
func chooseNetwork(name string, ports bool) (string, error) {
	switch name {
	case "", "default":
		if ports {
			return "pasta", nil
		}
		return "host", nil
	case "bridge", "slirp4netns", "private":
		return "pasta", nil // what a plain user can have of these
	case "host", "none", "pasta":
		return name, nil
	}
	return "", fmt.Errorf("--network %q: want host, none or pasta", name)
}

// readEnv reads variables from files, then those given, which win.
func readEnv(files, given []string) ([]string, error) {
	var env []string
	for _, path := range files {
		list, err := readKeyValues(path)
		if err != nil {
			return nil, err
		}
		env = append(env, list...)
	}
	return append(env, given...), nil
}

func readLabels(files, given []string) (map[string]string, error) {
	list, err := readEnv(files, given)
	if err != nil {
		return nil, err
	}
	labels := make(map[string]string, len(list))
	for _, kv := range list {
		key, value, _ := strings.Cut(kv, "=")
		if key == "" {
			return nil, fmt.Errorf("--label %q has no key: want KEY=VALUE", kv)
		}
		labels[key] = value
	}
	return labels, nil
}

// readKeyValues reads a file of NAME=VALUE lines; empty lines and those that
// begin with # say nothing.
func readKeyValues(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []string
	n := 0
	for line := range strings.Lines(strings.TrimPrefix(string(data), "\ufeff")) {
		n++
		line = strings.TrimLeft(strings.TrimRight(line, "\r\n"), " \t")
		if line == "" || line[0] == '#' {
			continue
		}
		name, _, _ := strings.Cut(line, "=")
		if name == "" || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("%s, line %d: want NAME=VALUE", path, n)
		}
		list = append(list, line)
	}
	return list, nil
}

// readSecurity puts the content of a seccomp profile in place of its file's
// name, since the container may start from elsewhere.
func readSecurity(opts []string) ([]string, error) {
	var out []string
	for _, opt := range opts {
		for _, sep := range []string{"=", ":"} {
			path, ok := strings.CutPrefix(opt, "seccomp"+sep)
			if !ok || path == "unconfined" {
				continue
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("read the seccomp profile: %w", err)
			}
			opt = "seccomp=" + string(data)
			break
		}
		out = append(out, opt)
	}
	return out, nil
}
