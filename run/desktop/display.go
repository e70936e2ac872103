package desktop

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"mica/run/skeleton"
)

// display is how programs reach the screen.
type display struct {
	wayland string // socket of the compositor; empty: none
	x11     string // DISPLAY; empty: none
	number  string // of the X display, without the screen
	socket  string // of the X server; empty: it is reached over the network
}

// CheckDisplay tells whether there is a display that a container with this
// network (host, none, pasta) can reach.
func CheckDisplay(network string) error {
	_, err := findDisplay(network)
	return err
}

// errNoDisplay says what to do where there is nothing to show windows on.
var errNoDisplay = errors.New("there is no display: neither WAYLAND_DISPLAY nor DISPLAY is set; " +
	"call from a desktop session, set DISPLAY, or leave --desktop out")

// findDisplay looks in the environment for the display of the calling user. One
// of Wayland and X11 suffices.
func findDisplay(network string) (display, error) {
	var d display
	d.wayland = waylandSocket()
	name := os.Getenv("DISPLAY")
	if name == "" {
		if d.wayland == "" {
			return d, errNoDisplay
		}
		return d, nil
	}
	err := d.findX11(name, network)
	if err != nil && d.wayland != "" {
		return display{wayland: d.wayland}, nil
	}
	return d, err
}

// waylandSocket is the socket of the Wayland compositor, if there is one.
func waylandSocket() string {
	name := os.Getenv("WAYLAND_DISPLAY")
	if name == "" {
		name = "wayland-0"
	}
	if !filepath.IsAbs(name) {
		dir := os.Getenv("XDG_RUNTIME_DIR")
		if dir == "" {
			return ""
		}
		name = filepath.Join(dir, name)
	}
	if !answers(name) {
		return ""
	}
	return name
}

// findX11 finds the server that a DISPLAY such as ":0", "unix:0.0" or "host:10" names.
func (d *display) findX11(name, network string) error {
	d.x11 = name
	i := strings.LastIndexByte(name, ':')
	if i < 0 {
		return fmt.Errorf("DISPLAY=%s names no display: want one such as :0", name)
	}
	host := name[:i]
	d.number, _, _ = strings.Cut(name[i+1:], ".")
	if _, err := strconv.ParseUint(d.number, 10, 16); err != nil {
		return fmt.Errorf("DISPLAY=%s names no display: want one such as :0", name)
	}
	if host != "" && host != "unix" {
		if network == "none" {
			return fmt.Errorf("DISPLAY=%s is reached over the network: leave --network none out", name)
		}
		return nil
	}
	socket := skeleton.X11Sockets + "/X" + d.number
	switch {
	case answers(socket):
		d.socket = socket
	case !answers("@" + socket):
		return fmt.Errorf("no X server answers at DISPLAY=%s: start it, or set DISPLAY to one that runs", name)
	case network != "" && network != "host":
		return fmt.Errorf("the X server of DISPLAY=%s listens at an abstract socket alone, which --network %s hides: use --network host", name, network)
	}
	return nil
}

// answers tells whether somebody listens at a Unix socket.
func answers(path string) bool {
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// isSocket tells whether a path is a socket, without calling anybody.
func isSocket(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().Type() == os.ModeSocket
}
