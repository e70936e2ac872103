// Package desktop gives a container what a graphical program asks of its user's session: the screen, sound, the session bus, fonts and
// looks, and the home directory at its usual place. What the machine does not have is left out.
package desktop

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"mica/internal/environ"
	"mica/run/account"
	"mica/run/control"
	"mica/run/mounted"
	"mica/run/record"
	"mica/run/sandbox"
	"mica/run/skeleton"
	"mica/run/tree"
	"mica/run/userns"
)

// Desktop is what a container has got of its user's desktop.
type Desktop struct {
	cfg  *record.Config
	home *tree.Tree // the home directory, where it is a union; nil: it is not
	env  []string
}

// gatherer gathers what a container gets of its user's desktop. It looks at the
// environment of whoever starts the container, each time anew.
type gatherer struct {
	c        *record.Container
	cfg      *record.Desktop
	tree     *tree.Tree // of the container
	home     *tree.Tree // see Desktop
	box      *sandbox.Config
	ids      sandbox.IDMap
	uid, gid uint32 // of the calling user, as the container calls them
	runtime  string // XDG_RUNTIME_DIR in the container
	mounts   []sandbox.Mount
	env      []string
}

// Add adds the desktop and the home directory to the sandbox of a container that asks for them; nil if it does not. The
// caller closes it when nothing of the container runs any more.
func Add(box *sandbox.Config, c *record.Container, t *tree.Tree) (*Desktop, error) {
	cfg := c.Config.Host.Desktop
	if cfg == nil {
		return nil, nil
	}
	d := &gatherer{c: c, cfg: cfg, tree: t, box: box, ids: box.IDs}
	d.uid, d.gid = userns.Own(box.IDs)
	d.runtime = "/run/user/" + strconv.Itoa(int(d.uid))
	err := d.gather()
	got := &Desktop{cfg: c.Config, home: d.home, env: d.env}
	if err != nil {
		got.Close()
		return nil, err
	}
	box.Mounts = mounted.Order(append(d.mounts, box.Mounts...))
	box.Process.Env = got.environment(box.Process.Env, nil)
	return got, nil
}

func (d *gatherer) gather() error {
	cfg := d.cfg
	private, err := d.setHome()
	if err != nil {
		return err
	}
	d.set("HOME", cfg.HomeDir)
	if cfg.AsUser && !d.c.Config.HostBase {
		if err := account.Add(d.tree, d.uid, d.gid, cfg.HomeDir); err != nil {
			return err
		}
	}
	if cfg.Display {
		for _, add := range []func() error{d.addDisplay, d.addServices, d.addDevices, d.addLocale, d.addLooks} {
			if err := add(); err != nil {
				return err
			}
		}
		if private != nil {
			if err := d.addUserLooks(private); err != nil {
				return err
			}
		}
		d.box.Process.User.KeepGroups = keepsGroups(d.c.Config)
	}
	return nil
}

// AddTo adds what belongs to a process of `exec`.
func (d *Desktop) AddTo(spec *sandbox.Spec, x *control.Exec) {
	if d == nil {
		return
	}
	extra := x.Env
	if x.User != "" {
		extra = append([]string{"HOME=", "XDG_RUNTIME_DIR="}, extra...) // somebody else's
	}
	spec.Env = d.environment(spec.Env, extra)
	spec.User.KeepGroups = x.User == "" && d.cfg.Host.Desktop.Display && keepsGroups(d.cfg)
}

// keepsGroups tells whether the calling user's groups stay, which devices of
// the screen may belong to.
func keepsGroups(cfg *record.Config) bool {
	return cfg.Host.Desktop.AsUser && len(cfg.Host.GroupAdd) == 0
}

// Close ends the union of the home directory.
func (d *Desktop) Close() {
	if d != nil && d.home != nil {
		_ = d.home.Close()
	}
}

// environment adds the variables of the desktop to those of a process, but for
// those that the user has set, for the container or in extra.
func (d *Desktop) environment(env, extra []string) []string {
	for _, kv := range d.env {
		key, _, _ := strings.Cut(kv, "=")
		if slices.Contains(d.cfg.Host.Desktop.Given, key) || slices.ContainsFunc(extra, func(x string) bool { return strings.HasPrefix(x, key+"=") }) {
			continue
		}
		env = environ.Set(env, kv)
	}
	return env
}

// set sets a variable.
func (d *gatherer) set(key, value string) { d.env = environ.Set(d.env, key+"="+value) }

// pass passes variables on that are set.
func (d *gatherer) pass(keys ...string) {
	for _, key := range keys {
		if value, ok := os.LookupEnv(key); ok {
			d.set(key, value)
		}
	}
}

// bind shows something of the machine, read-only. It tells whether it is there.
func (d *gatherer) bind(source, target string) bool {
	if _, err := os.Stat(source); err != nil {
		return false
	}
	d.mounts = append(d.mounts, sandbox.Mount{
		Kind: sandbox.MountBind, Source: source, Target: target, ReadOnly: true, NoSuid: true, NoDev: true,
	})
	return true
}

// addDisplay gives the container the screen.
func (d *gatherer) addDisplay() error {
	found, err := findDisplay(d.c.Config.Host.Network)
	if err != nil {
		return err
	}
	d.mounts = append(d.mounts, sandbox.Mount{
		Kind: sandbox.MountTmpfs, Target: d.runtime, NoSuid: true, NoDev: true,
		Options: "mode=700,uid=" + strconv.Itoa(int(d.uid)) + ",gid=" + strconv.Itoa(int(d.gid)),
	})
	d.set("XDG_RUNTIME_DIR", d.runtime)
	if found.wayland != "" {
		name := filepath.Base(found.wayland)
		d.bind(found.wayland, filepath.Join(d.runtime, name))
		d.set("WAYLAND_DISPLAY", name)
	}
	if found.x11 != "" {
		if err := d.addX11(&found); err != nil {
			return err
		}
	}
	// What programs and toolkits go by; shared memory does not reach into another IPC namespace.
	d.pass("XDG_SESSION_TYPE", "XDG_CURRENT_DESKTOP", "DESKTOP_SESSION", "XCURSOR_THEME", "XCURSOR_SIZE", "GTK_THEME", "GDK_SCALE",
		"GDK_DPI_SCALE", "QT_SCALE_FACTOR", "QT_AUTO_SCREEN_SCALE_FACTOR", "XMODIFIERS", "GTK_IM_MODULE", "QT_IM_MODULE")
	d.set("QT_X11_NO_MITSHM", "1")
	return nil
}

func (d *gatherer) addX11(x *display) error {
	d.set("DISPLAY", x.x11)
	if x.socket != "" {
		d.mounts = append(d.mounts, sandbox.Mount{Kind: sandbox.MountTmpfs, Target: skeleton.X11Sockets, Options: "mode=1777,size=64k", NoSuid: true, NoDev: true})
		d.bind(x.socket, x.socket)
	}
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	cookie, err := xAuthority(xAuthorityFile(), x.number, hostname)
	if err != nil || len(cookie) == 0 {
		return err
	}
	// The directory is the user's alone, whoever owns the file.
	file := filepath.Join(d.runtime, "Xauthority")
	d.box.Files = append(d.box.Files, sandbox.File{Target: file, Content: cookie})
	d.set("XAUTHORITY", file)
	return nil
}
