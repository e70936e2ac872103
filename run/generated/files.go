// Package generated makes the files that every start of a container writes anew: its names of hosts, its name servers and its
// timezone. They lie in memory over what its own tree has, so that who looks from outside gets them here, too.
package generated

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"mica/run/record"
	"mica/run/sandbox"
)

// Files are /etc/hosts, /etc/hostname, /etc/resolv.conf and, where it is asked for, /etc/localtime.
func Files(cfg *record.Config) ([]sandbox.File, error) {
	hosts, err := hostsFile(cfg)
	if err != nil {
		return nil, err
	}
	resolv, err := resolvConf(cfg)
	if err != nil {
		return nil, err
	}
	files := []sandbox.File{
		{Target: "/etc/hostname", Content: []byte(cfg.Container.Hostname + "\n")},
		{Target: "/etc/resolv.conf", Content: resolv},
	}
	if !cfg.Host.NoHosts {
		files = append(files, sandbox.File{Target: "/etc/hosts", Content: hosts})
	}
	if zone := cfg.Host.TimeZone; zone != "" {
		data, err := os.ReadFile(zoneFile(zone))
		if err != nil {
			return nil, fmt.Errorf("read the timezone: %w", err)
		}
		files = append(files, sandbox.File{Target: "/etc/localtime", Content: data})
	}
	return files, nil
}

// ZoneInfo is where the machine has its timezones.
const ZoneInfo = "/usr/share/zoneinfo/"

// zoneFile is where the machine has a timezone.
func zoneFile(name string) string {
	if name == "local" {
		return "/etc/localtime"
	}
	return filepath.Join(ZoneInfo, filepath.Clean("/"+name))
}

// CheckTimeZone refuses timezones that the machine does not know.
func CheckTimeZone(name string) error {
	fi, err := os.Stat(zoneFile(name))
	if err != nil || !fi.Mode().IsRegular() {
		return fmt.Errorf("timezone %q: want local, or a name below %s, such as Europe/Berlin", name, ZoneInfo)
	}
	return nil
}

const localHosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

func hostsFile(cfg *record.Config) ([]byte, error) {
	var b strings.Builder
	if cfg.Host.SharesNetwork() {
		data, err := os.ReadFile("/etc/hosts")
		if err != nil && !os.IsNotExist(err) {
			return nil, fmt.Errorf("read the machine's hosts file: %w", err)
		}
		if len(data) == 0 {
			data = []byte(localHosts)
		}
		b.Write(data)
		if data[len(data)-1] != '\n' {
			b.WriteByte('\n')
		}
	} else {
		b.WriteString(localHosts)
	}
	h := &cfg.Host
	given := make(map[string]bool)
	for _, entry := range h.ExtraHosts {
		name, addr, err := splitHost(entry, h)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s\t%s\n", addr, name)
		given[name] = true
	}
	if WantsHostGateway(h) {
		for _, name := range machineNames {
			if given[name] {
				continue
			}
			_, addr, err := splitHost(name+":"+hostGateway, h)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&b, "%s\t%s\n", addr, name)
		}
	}
	fmt.Fprintf(&b, "127.0.1.1\t%s\n", strings.Join(ownNames(cfg.Container.Hostname, cfg.Container.Domainname), " "))
	return []byte(b.String()), nil
}

// ownNames are those that a container knows itself by: with its domain, which may be given in either of the two, first, and
// without last.
func ownNames(host, domain string) []string {
	names := []string{host}
	if domain != "" {
		names = []string{host + "." + domain, host}
	}
	if short, _, ok := strings.Cut(host, "."); ok && short != "" {
		names = append(names, short)
	}
	return names
}

const hostGateway = "host-gateway"

// machineNames are what Docker and Podman call the machine in containers that reach it.
var machineNames = []string{"host.docker.internal", "host.containers.internal"}

// splitHost reads NAME:ADDRESS or NAME=ADDRESS. The address host-gateway is
// the machine itself.
func splitHost(entry string, h *record.HostConfig) (name, addr string, err error) {
	name, addr, ok := strings.Cut(entry, "=")
	if !ok {
		name, addr, ok = strings.Cut(entry, ":")
	}
	addr = strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
	switch {
	case !ok || addr != hostGateway:
	case h.Network == "pasta":
		if addr, err = defaultGateway(); err != nil {
			return "", "", fmt.Errorf("host entry %q: %w", entry, err)
		}
	default:
		addr = "127.0.0.1"
	}
	if _, err := netip.ParseAddr(addr); !ok || name == "" || err != nil {
		return "", "", fmt.Errorf("host entry %q: want NAME:ADDRESS", entry)
	}
	return name, addr, nil
}

// WantsHostGateway tells whether a container of a network of its own is to reach the machine.
func WantsHostGateway(h *record.HostConfig) bool {
	return h.Network == "pasta" && slices.ContainsFunc(h.ExtraHosts, func(entry string) bool {
		return strings.HasSuffix(entry, ":"+hostGateway) || strings.HasSuffix(entry, "="+hostGateway)
	})
}

// defaultGateway is where the machine sends what is for elsewhere, and pasta, if it is to, what is for the machine.
func defaultGateway() (string, error) {
	table, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return "", fmt.Errorf("find the default gateway: %w", err)
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line) // interface, destination, gateway, ..., the addresses as the processor has them in memory
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		if n, err := strconv.ParseUint(f[2], 16, 32); err == nil && n != 0 {
			var b [4]byte
			binary.NativeEndian.PutUint32(b[:], uint32(n))
			return netip.AddrFrom4(b).String(), nil
		}
	}
	return "", errors.New("the machine has no default gateway, at whose address a container could reach it: leave host-gateway out, or choose --network host")
}

// resolvConf is the machine's own, changed as the options say.
func resolvConf(cfg *record.Config) ([]byte, error) {
	h := &cfg.Host
	data, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read the machine's resolver configuration: %w", err)
	}
	if h.Network == "pasta" {
		data = reachableServers(data)
	}
	if WantsHostGateway(h) {
		// The name server that is the gateway too would be looked for on the machine.
		if gateway, err := defaultGateway(); err == nil {
			data = regexp.MustCompile(`(?m)^(nameserver\s+)`+regexp.QuoteMeta(gateway)+`[ \t]*$`).ReplaceAll(data, []byte("${1}"+sandbox.PastaDNS))
		}
	}
	if len(h.DNS) == 0 && len(h.DNSSearch) == 0 && len(h.DNSOptions) == 0 {
		return data, nil
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		key, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		replaced := key == "nameserver" && len(h.DNS) > 0 || (key == "search" || key == "domain") && len(h.DNSSearch) > 0 ||
			key == "options" && len(h.DNSOptions) > 0
		if !replaced {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	if len(h.DNSSearch) > 0 && h.DNSSearch[0] != "." {
		b.WriteString("search " + strings.Join(h.DNSSearch, " ") + "\n")
	}
	for _, addr := range h.DNS {
		b.WriteString("nameserver " + addr + "\n")
	}
	if len(h.DNSOptions) > 0 {
		b.WriteString("options " + strings.Join(h.DNSOptions, " ") + "\n")
	}
	return []byte(b.String()), nil
}

// reachableServers is a resolver configuration for a network of its own, where name servers on the machine's loopback, such
// as systemd's, are not reached but through pasta.
func reachableServers(conf []byte) []byte {
	var b strings.Builder
	forwarded := false
	for line := range strings.Lines(string(conf)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "nameserver" {
			if addr, err := netip.ParseAddr(f[1]); err == nil && addr.IsLoopback() {
				if forwarded {
					continue
				}
				line, forwarded = "nameserver "+sandbox.PastaDNS+"\n", true
			}
		}
		b.WriteString(line)
	}
	return []byte(b.String())
}
