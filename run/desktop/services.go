package desktop

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"mica/run/sandbox"
)

// addServices gives the container the sockets of sound and of the session bus,
// as far as they are there.
func (d *gatherer) addServices() error {
	own := os.Getenv("XDG_RUNTIME_DIR")
	d.addPulse(own)
	d.addBus(own)
	if own == "" {
		return nil
	}
	remote := os.Getenv("PIPEWIRE_REMOTE")
	if remote == "" {
		remote = "pipewire-0"
	}
	if !filepath.IsAbs(remote) {
		remote = filepath.Join(own, remote)
	}
	d.socket(remote, "pipewire-0")
	// The bus of accessibility, which the session bus leads to by path.
	if buses, err := filepath.Glob(filepath.Join(own, "at-spi", "bus*")); err == nil && own == d.runtime {
		for _, bus := range buses {
			d.socket(bus, filepath.Join("at-spi", filepath.Base(bus)))
		}
	}
	return nil
}

// socket shows a socket in the runtime directory and gives its path there,
// which is empty where there is no such socket.
func (d *gatherer) socket(source, name string) string {
	target := filepath.Join(d.runtime, name)
	if !isSocket(source) || !d.bind(source, target) {
		return ""
	}
	return target
}

func (d *gatherer) addPulse(own string) {
	server := os.Getenv("PULSE_SERVER")
	path := filepath.Join(own, "pulse", "native")
	if server != "" {
		var local bool
		if path, local = strings.CutPrefix(strings.TrimPrefix(server, "unix:"), "/"); !local {
			d.set("PULSE_SERVER", server) // over the network
			return
		}
		path = "/" + path
	}
	target := d.socket(path, "pulse/native")
	if target == "" {
		return
	}
	d.set("PULSE_SERVER", "unix:"+target)
	cookie := os.Getenv("PULSE_COOKIE")
	if cookie == "" {
		cookie = filepath.Join(os.Getenv("HOME"), ".config", "pulse", "cookie")
	}
	if data, err := os.ReadFile(cookie); err == nil {
		file := filepath.Join(d.runtime, "pulse", "cookie")
		d.box.Files = append(d.box.Files, sandbox.File{Target: file, Content: data})
		d.set("PULSE_COOKIE", file)
	}
}

// addBus finds the socket of the session bus in its address; see "Server
// Addresses" in the D-Bus specification.
func (d *gatherer) addBus(own string) {
	for address := range strings.SplitSeq(os.Getenv("DBUS_SESSION_BUS_ADDRESS"), ";") {
		options, ok := strings.CutPrefix(address, "unix:")
		if !ok {
			continue
		}
		for option := range strings.SplitSeq(options, ",") {
			key, value, _ := strings.Cut(option, "=")
			if key == "abstract" && d.c.Config.Host.SharesNetwork() {
				d.set("DBUS_SESSION_BUS_ADDRESS", address)
				return
			}
			if path, err := url.PathUnescape(value); key == "path" && err == nil {
				if target := d.socket(path, "bus"); target != "" {
					d.set("DBUS_SESSION_BUS_ADDRESS", "unix:path="+target)
					return
				}
			}
		}
	}
	if own != "" {
		if target := d.socket(filepath.Join(own, "bus"), "bus"); target != "" {
			d.set("DBUS_SESSION_BUS_ADDRESS", "unix:path="+target)
		}
	}
}

// addDevices gives the container the devices that draw.
func (d *gatherer) addDevices() error {
	for _, pattern := range []string{"/dev/dri", "/dev/nvidia*", "/dev/kfd", "/dev/mali[0-9]*", "/dev/dxg"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, dev := range found {
			if !slices.ContainsFunc(d.box.Devices, func(x sandbox.Device) bool { return x.Source == dev }) {
				d.box.Devices = append(d.box.Devices, sandbox.Device{Source: dev})
			}
		}
	}
	return nil
}
