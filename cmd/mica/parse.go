package main

import (
	"fmt"
	"net/netip"
	"os"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mica/internal/portspec"
	"mica/layerstore"
	"mica/run/limits"
	"mica/run/record"
)

// parsePorts reads [[IP:][HOST]:]CONTAINER[/PROTOCOL], each port possibly a range. Without HOST the port of the host is 0:
// one is chosen when the container is made, as from a range of the host for one port of the container.
func parsePorts(flags []string) ([]record.Port, error) {
	var list []record.Port
	for _, s := range flags {
		spec, protocol, has := strings.Cut(s, "/")
		if !has {
			protocol = "tcp"
		}
		bad := fmt.Errorf("--publish %q: want [[IP:][HOST]:]CONTAINER[/tcp|udp]", s)
		if protocol != "tcp" && protocol != "udp" {
			return nil, bad
		}
		ip, host, container := "", "", ""
		if strings.HasPrefix(spec, "[") {
			end := strings.Index(spec, "]:")
			if end < 0 {
				return nil, bad
			}
			ip, spec = spec[1:end], spec[end+2:]
		}
		parts := strings.Split(spec, ":")
		switch {
		case len(parts) == 1:
			container = parts[0]
		case len(parts) == 2:
			host, container = parts[0], parts[1]
		case len(parts) == 3 && ip == "":
			ip, host, container = parts[0], parts[1], parts[2]
		default:
			return nil, bad
		}
		to, err := portspec.ParseRange(container)
		if err != nil {
			return nil, bad
		}
		if _, err := netip.ParseAddr(ip); ip != "" && err != nil {
			return nil, fmt.Errorf("--publish %q: %q is no address: want one such as 127.0.0.1 or [::1]", s, ip)
		}
		if host == "" || host == "0" {
			for c := to.First; c <= to.Last; c++ {
				list = append(list, record.Port{HostIP: ip, Container: uint16(c), Protocol: protocol})
			}
			continue
		}
		from, err := portspec.ParseRange(host)
		one := to.First == to.Last
		switch {
		case err != nil || !one && from.Last-from.First != to.Last-to.First:
			return nil, bad
		case one && from.First != from.Last: // whichever is free
			list = append(list, record.Port{HostIP: ip, Host: uint16(from.First), HostLast: uint16(from.Last), Container: uint16(to.First), Protocol: protocol})
			continue
		}
		for i := 0; i <= to.Last-to.First; i++ {
			list = append(list, record.Port{HostIP: ip, Host: uint16(from.First + i), Container: uint16(to.First + i), Protocol: protocol})
		}
	}
	return list, nil
}

// normalPorts checks exposed ports, PORT[-PORT][/PROTOCOL], and gives them their protocol.
func normalPorts(list []string) ([]string, error) {
	var out []string
	for _, p := range list {
		ports, err := portspec.Parse(p)
		if err != nil {
			return nil, fmt.Errorf("--expose %q: %w", p, err)
		}
		for n := ports.First; n <= ports.Last; n++ {
			out = append(out, fmt.Sprintf("%d/%s", n, ports.Protocol))
		}
	}
	return out, nil
}

// parseLog reads --log-driver and --log-opt.
func parseLog(driver string, opts []string) (record.Log, error) {
	var l record.Log
	switch driver {
	case "json-file", "k8s-file", "local": // all are the same file here
	case "none":
		l.None = true
	default:
		return l, fmt.Errorf("--log-driver %q: want json-file or none", driver)
	}
	for _, s := range opts {
		key, value, _ := strings.Cut(s, "=")
		if slices.Contains(idleLogOpts, key) {
			continue
		}
		var err error
		switch key {
		case "max-size":
			if value == "-1" {
				l.MaxSize = -1
			} else if l.MaxSize, err = units.RAMInBytes(value); err != nil || l.MaxSize <= 0 {
				return l, fmt.Errorf("--log-opt %q: want a size, such as max-size=10m", s)
			}
		case "max-file":
			if l.Files, err = strconv.Atoi(value); err != nil || l.Files < 1 {
				return l, fmt.Errorf("--log-opt %q: want a number of files, such as max-file=3", s)
			}
		default:
			return l, fmt.Errorf("--log-opt %q: want max-size=SIZE or max-file=N", s)
		}
	}
	switch {
	case l.None || l.MaxSize > 0:
	case l.MaxSize < 0:
		l.MaxSize = 0
	default:
		l.MaxSize = defaultLogSize
		if l.Files == 0 {
			l.Files = defaultLogFiles
		}
	}
	return l, nil
}

// idleLogOpts are options of Docker's drivers for what mica's logs have not, and can do without.
var idleLogOpts = []string{"compress", "env", "env-regex", "labels", "labels-regex", "mode", "tag"}

// The limits of a log that has no others, those of Docker's driver "local": one that nobody thinks of must not fill the disk.
const (
	defaultLogSize  = 20 << 20
	defaultLogFiles = 5
)

// checkStreams refuses what -a cannot attach to.
func checkStreams(names []string) error {
	for _, s := range names {
		if !slices.Contains([]string{"stdin", "stdout", "stderr"}, strings.ToLower(s)) {
			return fmt.Errorf("--attach %q: want stdin, stdout or stderr", s)
		}
	}
	return nil
}

// checkDNS refuses name servers that resolvers could not read.
func checkDNS(servers []string) error {
	for _, s := range servers {
		if _, err := netip.ParseAddr(s); err != nil {
			return fmt.Errorf("--dns %q: want an address, such as 192.0.2.1", s)
		}
	}
	return nil
}

// parseSysctls reads NAME=VALUE.
func parseSysctls(flags []string) ([][2]string, error) {
	var list [][2]string
	for _, s := range flags {
		name, value, ok := strings.Cut(s, "=")
		name = strings.ReplaceAll(name, "/", ".")
		if !ok || name == "" || slices.Contains(strings.Split(name, "."), "") {
			return nil, fmt.Errorf("--sysctl %q: want NAME=VALUE, such as net.core.somaxconn=1024", s)
		}
		list = append(list, [2]string{name, value})
	}
	return list, nil
}

// parseUmask reads an octal mask.
func parseUmask(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return 0, fmt.Errorf("--umask %q: want an octal number such as 0027", s)
	}
	return uint32(n), nil
}

// parseUlimits reads NAME=SOFT[:HARD].
func parseUlimits(flags []string) ([]record.Ulimit, error) {
	var list []record.Ulimit
	for _, s := range flags {
		name, value, ok := strings.Cut(s, "=")
		softText, hardText, two := strings.Cut(value, ":")
		if !two {
			hardText = softText
		}
		soft, err1 := limitValue(softText)
		hard, err2 := limitValue(hardText)
		switch {
		case !ok || err1 != nil || err2 != nil:
			return nil, fmt.Errorf("--ulimit %q: want NAME=SOFT[:HARD], such as nofile=1024:4096", s)
		case !limits.KnownUlimit(name):
			return nil, fmt.Errorf("--ulimit %q: there is no limit %q; want a name such as nofile, nproc or core", s, name)
		case hard >= 0 && (soft < 0 || soft > hard):
			return nil, fmt.Errorf("--ulimit %q: the soft limit is above the hard one; want NAME=SOFT[:HARD]", s)
		}
		list = append(list, record.Ulimit{Name: name, Soft: soft, Hard: hard})
	}
	return list, nil
}

func limitValue(s string) (int64, error) {
	if s == "unlimited" {
		return -1, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err == nil && n < -1 {
		return 0, strconv.ErrRange
	}
	return n, err
}

// parseDevices reads SRC[:DST[:PERMISSIONS]].
func parseDevices(flags []string) ([]record.DeviceMapping, error) {
	var list []record.DeviceMapping
	for _, s := range flags {
		parts := strings.Split(s, ":")
		d := record.DeviceMapping{Source: parts[0], Target: parts[0]}
		rest := parts[1:]
		if len(rest) > 0 && strings.HasPrefix(rest[0], "/") {
			d.Target, rest = rest[0], rest[1:]
		}
		if len(rest) > 1 || !path.IsAbs(d.Source) || len(rest) == 1 && (rest[0] == "" || strings.Trim(rest[0], "rwm") != "") {
			return nil, fmt.Errorf("--device %q: want SRC[:DST][:PERMISSIONS], such as /dev/fuse or /dev/ttyS0:/dev/modem:rw", s)
		}
		fi, err := os.Stat(d.Source)
		if err != nil {
			return nil, fmt.Errorf("--device %q: %w", s, err)
		}
		if fi.Mode()&os.ModeDevice == 0 && !fi.IsDir() {
			return nil, fmt.Errorf("--device %q: %s is no device", s, d.Source)
		}
		list = append(list, d)
	}
	return list, nil
}

// parseRestart reads a restart policy.
func parseRestart(s string) (record.RestartPolicy, error) {
	name, count, has := strings.Cut(s, ":")
	p := record.RestartPolicy{Name: name}
	switch name {
	case "no", "":
		p.Name = ""
	case "always", "unless-stopped", "on-failure":
	default:
		return p, fmt.Errorf("--restart %q: want no, on-failure[:N], always or unless-stopped", s)
	}
	if has {
		n, err := strconv.Atoi(count)
		if err != nil || n < 0 || name != "on-failure" {
			return p, fmt.Errorf("--restart %q: want no, on-failure[:N], always or unless-stopped", s)
		}
		p.MaxRetries = n
	}
	return p, nil
}

// healthFlags change the image's health check.
type healthFlags struct {
	cmd                                           string
	interval, timeout, startPeriod, startInterval time.Duration
	retries                                       int
	none                                          bool
}

func (f *healthFlags) register(fl *pflag.FlagSet) {
	fl.StringVar(&f.cmd, "health-cmd", "", "command that checks the container's health")
	fl.DurationVar(&f.interval, "health-interval", 0, "time between health checks (default 30s)")
	fl.DurationVar(&f.timeout, "health-timeout", 0, "time that a health check may take (default 30s)")
	fl.DurationVar(&f.startPeriod, "health-start-period", 0, "time in which failures do not count")
	fl.DurationVar(&f.startInterval, "health-start-interval", 0, "time between health checks in the start period")
	fl.IntVar(&f.retries, "health-retries", 0, "failures in a row that make it unhealthy (default 3)")
	fl.BoolVar(&f.none, "no-healthcheck", false, "leave the image's health check out")
}

// check gives the health check that the flags describe, nil for the image's. Without a command it is what they change in
// the image's.
func (f *healthFlags) check(c *cobra.Command) (*layerstore.Healthcheck, error) {
	changed := func(name string) bool { return c.Flags().Changed(name) }
	if f.none {
		for _, name := range []string{"health-cmd", "health-interval", "health-timeout", "health-start-period", "health-start-interval", "health-retries"} {
			if changed(name) {
				return nil, fmt.Errorf("--no-healthcheck and --%s exclude each other: leave one out", name)
			}
		}
		return &layerstore.Healthcheck{Test: []string{"NONE"}}, nil
	}
	for name, d := range map[string]time.Duration{
		"health-interval": f.interval, "health-timeout": f.timeout, "health-start-period": f.startPeriod, "health-start-interval": f.startInterval,
	} {
		if changed(name) && d != 0 && d < time.Millisecond {
			return nil, fmt.Errorf("--%s %s: want at least 1ms", name, d)
		}
	}
	if f.retries < 0 {
		return nil, fmt.Errorf("--health-retries %d: want a number from 0", f.retries)
	}
	check := layerstore.Healthcheck{
		Interval: f.interval, Timeout: f.timeout, StartPeriod: f.startPeriod, StartInterval: f.startInterval, Retries: f.retries,
	}
	if f.cmd != "" {
		check.Test = []string{"CMD-SHELL", f.cmd}
	} else if reflect.DeepEqual(check, layerstore.Healthcheck{}) {
		return nil, nil
	}
	return &check, nil
}
