package run

import (
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"mica/run/control"
	"mica/run/record"
	"mica/run/sandbox"
)

// desktop gathers what a container gets of its user's desktop. It looks at the
// environment of whoever starts the container, each time anew.
type desktop struct {
	sess     *session
	cfg      *record.Desktop
	box      *sandbox.Config
	ids      sandbox.IDMap
	uid, gid uint32 // of the calling user, as the container calls them
	runtime  string // XDG_RUNTIME_DIR in the container
	mounts   []sandbox.Mount
	env      []string
}

// setDesktop adds the desktop and the home directory to a sandbox.
func (sess *session) setDesktop(box *sandbox.Config, s *supervisor) error {
	cfg := sess.cfg.Host.Desktop
	if cfg == nil {
		return nil
	}
	d := &desktop{sess: sess, cfg: cfg, box: box, ids: box.IDs}
	d.uid, d.gid = ownIDs(box.IDs)
	d.runtime = "/run/user/" + strconv.Itoa(int(d.uid))
	private, err := d.setHome(s.c, s.engine.root)
	if err != nil {
		return err
	}
	d.set("HOME", cfg.HomeDir)
	if cfg.AsUser {
		if err := sess.addAccount(d.uid, d.gid, cfg.HomeDir); err != nil {
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
		box.Process.User.KeepGroups = sess.keepsGroups()
	}
	box.Mounts = orderMounts(append(d.mounts, box.Mounts...))
	sess.desktopEnv = d.env
	box.Process.Env = sess.withDesktop(box.Process.Env, nil)
	return nil
}

// addDesktop adds what belongs to a process of `exec`.
func (sess *session) addDesktop(spec *sandbox.Spec, x *control.Exec) {
	cfg := sess.cfg.Host.Desktop
	if cfg == nil {
		return
	}
	extra := x.Env
	if x.User != "" {
		extra = append([]string{"HOME=", "XDG_RUNTIME_DIR="}, extra...) // somebody else's
	}
	spec.Env = sess.withDesktop(spec.Env, extra)
	spec.User.KeepGroups = x.User == "" && cfg.Display && sess.keepsGroups()
}

// keepsGroups tells whether the calling user's groups stay, which devices of
// the screen may belong to.
func (sess *session) keepsGroups() bool {
	return sess.cfg.Host.Desktop.AsUser && len(sess.cfg.Host.GroupAdd) == 0
}

// closeHome ends the union of the home directory.
func (sess *session) closeHome() {
	if sess.home != nil {
		_ = sess.home.close()
		sess.home = nil
	}
}

// ownIDs is what a container calls the calling user and group.
func ownIDs(ids sandbox.IDMap) (uid, gid uint32) {
	return idInside(ids.UIDs, uint32(os.Getuid())), idInside(ids.GIDs, uint32(os.Getgid()))
}

// orderMounts sorts mounts so that none covers another that was meant to be
// seen: those nearer to the root come first, and otherwise the order stays.
func orderMounts(mounts []sandbox.Mount) []sandbox.Mount {
	sort.SliceStable(mounts, func(i, j int) bool { return depth(mounts[i].Target) < depth(mounts[j].Target) })
	return mounts
}

// withDesktop adds the variables of the desktop to an environment, but for
// those that the user has set, for the container or in extra.
func (sess *session) withDesktop(env, extra []string) []string {
	cfg := sess.cfg.Host.Desktop
	if cfg == nil {
		return env
	}
	for _, kv := range sess.desktopEnv {
		key, _, _ := strings.Cut(kv, "=")
		if slices.Contains(cfg.Given, key) || slices.ContainsFunc(extra, func(x string) bool { return strings.HasPrefix(x, key+"=") }) {
			continue
		}
		env = setEnv(env, kv)
	}
	return env
}

// startDir is where a container starts that names no directory: at home, where
// it has one.
func (sess *session) startDir() string {
	if d := sess.cfg.Host.Desktop; d != nil {
		return d.HomeDir
	}
	return "/"
}

// homeMounts are the directories in which no working directory is to be made,
// because something is mounted there.
func (sess *session) homeMounts() []record.Mount {
	d := sess.cfg.Host.Desktop
	if d == nil || d.Home == record.HomePrivate && !homeIsUnion(sess.cfg) {
		return nil
	}
	return []record.Mount{{Target: d.HomeDir}}
}

// set sets a variable.
func (d *desktop) set(key, value string) { d.env = setEnv(d.env, key+"="+value) }

// pass passes variables on that are set.
func (d *desktop) pass(keys ...string) {
	for _, key := range keys {
		if value, ok := os.LookupEnv(key); ok {
			d.set(key, value)
		}
	}
}

// bind shows something of the machine, read-only. It tells whether it is there.
func (d *desktop) bind(source, target string) bool {
	if _, err := os.Stat(source); err != nil {
		return false
	}
	d.mounts = append(d.mounts, sandbox.Mount{
		Kind: sandbox.MountBind, Source: source, Target: target, ReadOnly: true, NoSuid: true, NoDev: true,
	})
	return true
}

// addDisplay gives the container the screen.
func (d *desktop) addDisplay() error {
	found, err := findDisplay(d.sess.cfg.Host.Network)
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

func (d *desktop) addX11(x *display) error {
	d.set("DISPLAY", x.x11)
	if x.socket != "" {
		d.mounts = append(d.mounts, sandbox.Mount{Kind: sandbox.MountTmpfs, Target: x11Sockets, Options: "mode=1777,size=64k", NoSuid: true, NoDev: true})
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
