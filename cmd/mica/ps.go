package main

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mica/internal/format"
	"mica/run"
	"mica/run/record"
)

// containerRow is one line of ps.
type containerRow struct {
	Command, CreatedAt, ID, Image, Labels, LocalVolumes, Mounts, Names, Networks, Ports, RunningFor, Size, State, Status string

	labels map[string]string
}

// Label is the value of one label, for {{.Label "key"}}.
func (r containerRow) Label(key string) string { return r.labels[key] }

var containerTable = format.Table{
	Header: format.Header{
		"Command": "COMMAND", "CreatedAt": "CREATED AT", "ID": "CONTAINER ID", "Image": "IMAGE", "Labels": "LABELS",
		"LocalVolumes": "LOCAL VOLUMES", "Mounts": "MOUNTS", "Names": "NAMES", "Networks": "NETWORKS", "Ports": "PORTS",
		"RunningFor": "CREATED", "Size": "SIZE", "State": "STATE", "Status": "STATUS",
	},
	Default: "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}",
	Quiet:   "{{.ID}}",
}

// containerFilters are the conditions that [containerFilter] knows.
var containerFilters = []string{
	"ancestor", "before", "exited", "expose", "health", "id", "label", "label!", "name", "network", "publish", "restart-policy",
	"should-start-on-boot", "since", "status", "volume",
}

func (a *app) newPsCommand(use string) *cobra.Command {
	var all, latest, noTrunc, size bool
	var last int
	var opt format.Options
	var list []string
	var sorted string
	c := &cobra.Command{
		Use:     use + " [flags]",
		Short:   "List containers",
		Example: lines("mica ps -a", "mica ps -a --filter status=exited --format '{{.Names}}: {{.Status}}'", "mica ps --format json"),
		Args:    cobra.NoArgs,
	}
	fl := c.Flags()
	fl.BoolVarP(&all, "all", "a", false, "show all, not only running ones")
	fl.BoolVarP(&latest, "latest", "l", false, "show the one made last")
	fl.IntVarP(&last, "last", "n", -1, "show so many, those made last")
	fl.BoolVar(&noTrunc, "no-trunc", false, "do not shorten")
	fl.BoolVarP(&opt.Quiet, "quiet", "q", false, "print IDs only")
	fl.BoolVarP(&size, "size", "s", false, "show the size of the container's own layer")
	fl.StringVar(&opt.Format, "format", "", "table, json, or a Go template")
	fl.StringVar(&sorted, "sort", "", "order: command, created, id, image, names, runningfor or status (default the newest first)")
	fl.StringArrayVarP(&list, "filter", "f", nil, "ancestor, before, exited, expose, health, id, label, name, network, publish, restart-policy, should-start-on-boot, since, status, volume")
	c.RunE = func(c *cobra.Command, _ []string) error {
		flt, err := parseFilters(list, containerFilters...)
		if err != nil {
			return err
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		containers, err := e.Containers.List()
		if err != nil {
			return err
		}
		if latest {
			last = 1
		}
		if last < 0 && !all && len(flt["status"]) == 0 && len(flt["exited"]) == 0 {
			containers = slices.DeleteFunc(containers, func(ct *record.Container) bool { return !ct.State.Alive() })
		}
		match, err := containerFilter(e, flt)
		if err != nil {
			return err
		}
		containers = slices.DeleteFunc(containers, func(ct *record.Container) bool { return !match(ct) })
		if last >= 0 && len(containers) > last {
			containers = containers[:last]
		}
		if err := sortContainers(containers, sorted); err != nil {
			return err
		}
		table := containerTable
		if size {
			table.Default += "\t{{.Size}}"
		}
		rows := make([]containerRow, 0, len(containers))
		for _, ct := range containers {
			row := newContainerRow(ct, noTrunc, time.Now())
			if size || strings.Contains(opt.Format, ".Size") {
				row.Size = containerSize(c.Context(), e, ct)
			}
			rows = append(rows, row)
		}
		return format.Write(display(), table, opt, rows)
	}
	return c
}

func containerSize(ctx context.Context, e *run.Engine, ct *record.Container) string {
	own, all, err := containerSizes(ctx, e, ct)
	if err != nil {
		return "N/A"
	}
	return fmt.Sprintf("%s (virtual %s)", format.Size(own), format.Size(all))
}

// sortContainers puts containers in the order that --sort names.
func sortContainers(list []*record.Container, by string) error {
	keys := map[string]func(*record.Container) string{
		"command": func(ct *record.Container) string { return commandShown(ct.Config) },
		"id":      (*record.Container).ID,
		"image":   func(ct *record.Container) string { return imageShown(ct.Config) },
		"names":   func(ct *record.Container) string { return ct.Config.Name },
		"status":  func(ct *record.Container) string { return string(ct.State.Status) },
	}
	key := keys[by]
	switch {
	case by == "" || by == "runningfor":
	case by == "created":
		slices.Reverse(list)
	case key == nil:
		return fmt.Errorf("--sort %q: want command, created, id, image, names, runningfor or status", by)
	default:
		slices.SortStableFunc(list, func(x, y *record.Container) int { return strings.Compare(key(x), key(y)) })
	}
	return nil
}

// containerSizes are the size of a container's own layer, and that with its image.
func containerSizes(ctx context.Context, e *run.Engine, ct *record.Container) (own, all int64, err error) {
	if own, err = e.Size(ctx, ct); err != nil {
		return 0, 0, err
	}
	all = own
	if ct.Config.ImageID != "" {
		if img, err := e.Image(ct.Config.ImageID); err == nil {
			all += img.Size
		}
	}
	return own, all, nil
}

func newContainerRow(ct *record.Container, noTrunc bool, now time.Time) containerRow {
	cfg := ct.Config
	row := containerRow{
		ID: cfg.ID, Image: imageShown(cfg), Command: strconv.Quote(commandShown(cfg)), CreatedAt: format.Stamp(cfg.Created),
		RunningFor: format.Ago(cfg.Created, now), State: string(ct.State.Status), Status: ct.State.Describe(now, format.Duration),
		Names: cfg.Name, Ports: "", Labels: joinLabels(cfg.Container.Labels), Networks: networkShown(cfg), Size: "0B", labels: cfg.Container.Labels,
	}
	if ct.State.Alive() {
		row.Ports = joinPorts(cfg.Host.Ports)
	}
	var mounts []string
	volumes := 0
	for _, m := range cfg.Host.Mounts {
		switch {
		case m.Type == record.MountVolume:
			volumes++
			name := m.Volume
			if !noTrunc {
				name = format.Ellipsis(name, 15)
			}
			mounts = append(mounts, name)
		case m.Type == record.MountBind:
			source := m.Source
			if !noTrunc {
				source = format.Ellipsis(source, 15)
			}
			mounts = append(mounts, source)
		}
	}
	row.Mounts, row.LocalVolumes = strings.Join(mounts, ","), strconv.Itoa(volumes)
	if !noTrunc {
		row.ID = format.ShortID(cfg.ID)
		row.Command = strconv.Quote(format.Ellipsis(commandShown(cfg), 20))
	}
	return row
}

// commandShown is the command line, with what has spaces in it between quotes.
func commandShown(cfg *record.Config) string {
	args := cfg.Args()
	for i, arg := range args[min(1, len(args)):] {
		if strings.Contains(arg, " ") {
			args[i+1] = "'" + arg + "'"
		}
	}
	return strings.Join(args, " ")
}

// imageShown is the image as it was asked for, IDs in short form.
func imageShown(cfg *record.Config) string {
	name := cfg.Image
	if hex, ok := strings.CutPrefix(name, "sha256:"); ok && len(hex) == 64 {
		return format.ShortID(name)
	}
	return name
}

func networkShown(cfg *record.Config) string {
	if cfg.Host.Network == "" {
		return "host"
	}
	return cfg.Host.Network
}

func joinLabels(labels map[string]string) string {
	list := make([]string, 0, len(labels))
	for k, v := range labels {
		list = append(list, k+"="+v)
	}
	sort.Strings(list)
	return strings.Join(list, ",")
}

func joinPorts(ports []record.Port) string {
	var list []string
	for _, p := range ports {
		list = append(list, hostSide(p)+"->"+containerSide(p))
	}
	return strings.Join(list, ", ")
}

func hostSide(p record.Port) string {
	ip := p.HostIP
	switch {
	case ip == "":
		ip = "0.0.0.0"
	case strings.Contains(ip, ":"):
		ip = "[" + ip + "]"
	}
	return ip + ":" + strconv.Itoa(int(p.Host))
}

func containerSide(p record.Port) string { return strconv.Itoa(int(p.Container)) + "/" + p.Protocol }

// containerFilter makes the test that the filters of ps describe.
func containerFilter(e *run.Engine, f filters) (func(*record.Container) bool, error) {
	made := func(key string) (func(time.Time) bool, error) {
		if len(f[key]) == 0 {
			return func(time.Time) bool { return true }, nil
		}
		ct, err := e.Containers.Find(f[key][0])
		if err != nil {
			return nil, err
		}
		if key == "before" {
			return ct.Config.Created.After, nil
		}
		return func(t time.Time) bool { return t.After(ct.Config.Created) }, nil
	}
	before, err := made("before")
	if err != nil {
		return nil, err
	}
	since, err := made("since")
	if err != nil {
		return nil, err
	}
	states := []string{"created", "running", "restarting", "paused", "removing", "exited", "dead"}
	for _, s := range f["status"] {
		if !slices.Contains(states, s) {
			return nil, fmt.Errorf("filter status=%s: want one of %s", s, strings.Join(states, ", "))
		}
	}
	for _, s := range f["restart-policy"] {
		if _, err := parseRestart(s); err != nil {
			return nil, err
		}
	}
	boot, bootSet, err := f.flag("should-start-on-boot")
	if err != nil {
		return nil, err
	}
	for _, s := range f["exited"] {
		if _, err := strconv.Atoi(s); err != nil {
			return nil, fmt.Errorf("filter exited=%s: want an exit code", s)
		}
	}
	named, err := f.names()
	if err != nil {
		return nil, err
	}
	ancestors := make(map[string]bool)
	for _, ref := range f["ancestor"] {
		ancestors[ref] = true
		if img, err := e.Image(ref); err == nil {
			ancestors[img.ID] = true
		}
	}
	return func(ct *record.Container) bool {
		cfg := ct.Config
		health := "none"
		if ct.State.Health != nil {
			health = ct.State.Health.Status
		}
		return f.any("id", func(v string) bool { return strings.HasPrefix(cfg.ID, v) }) &&
			(named(cfg.Name) || named("/"+cfg.Name)) &&
			f.any("status", func(v string) bool { return string(ct.State.Status) == v || v == "exited" && ended(ct) }) &&
			f.any("exited", func(v string) bool { return ended(ct) && strconv.Itoa(ct.State.ExitCode) == v }) &&
			f.any("restart-policy", func(v string) bool { return cfg.Host.Restart.String() == v }) &&
			(!bootSet || startsOnBoot(ct) == boot) &&
			f.any("health", func(v string) bool { return health == v }) &&
			f.any("network", func(v string) bool { return networkShown(cfg) == v }) &&
			f.any("publish", func(v string) bool { return portListed(cfg.Host.Ports, v, true) }) &&
			f.any("expose", func(v string) bool { return portListed(cfg.Host.Ports, v, false) }) &&
			f.any("volume", func(v string) bool {
				return slices.ContainsFunc(cfg.Host.Mounts, func(m record.Mount) bool { return m.Volume == v || m.Source == v || m.Target == v })
			}) &&
			f.any("ancestor", func(string) bool { return ancestors[cfg.Image] || ancestors[cfg.ImageID] }) &&
			f.labels(cfg.Container.Labels) && before(cfg.Created) && since(cfg.Created)
	}, nil
}

// ended tells whether a container has run and does not any more; one that died with its supervisor is for Docker one that
// has exited.
func ended(ct *record.Container) bool {
	return ct.State.Status == record.Exited || ct.State.Status == record.Dead
}

// startsOnBoot tells whether a container is to be started with the machine.
func startsOnBoot(ct *record.Container) bool {
	switch ct.Config.Host.Restart.Name {
	case "always":
		return true
	case "unless-stopped":
		return !ct.State.Stopped
	}
	return false
}

func portListed(ports []record.Port, want string, host bool) bool {
	number, protocol, has := strings.Cut(want, "/")
	return slices.ContainsFunc(ports, func(p record.Port) bool {
		n := p.Container
		if host {
			n = p.Host
		}
		return strconv.Itoa(int(n)) == number && (!has || p.Protocol == protocol)
	})
}
