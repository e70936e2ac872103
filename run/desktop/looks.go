package desktop

import (
	"os"
	"path/filepath"
	"strings"

	"mica/internal/environ"
	"mica/run/generated"
	"mica/run/sandbox"
	"mica/run/skeleton"
	"mica/run/tree"
)

// addLooks shows the machine's fonts, icons and themes beside the image's own.
func (d *gatherer) addLooks() error {
	if d.c.Config.HostBase {
		return nil // they are in its root
	}
	d.mounts = append(d.mounts, sandbox.Mount{Kind: sandbox.MountTmpfs, Target: skeleton.HostFiles, Options: "mode=755,size=64k", NoSuid: true, NoDev: true})
	d.bind("/usr/share/fonts", skeleton.HostFiles+"/fonts/system")
	d.bind("/usr/local/share/fonts", skeleton.HostFiles+"/fonts/local")
	share := skeleton.HostFiles + "/share"
	icons, themes := d.bind("/usr/share/icons", share+"/icons"), d.bind("/usr/share/themes", share+"/themes")
	if icons || themes {
		d.set("XDG_DATA_DIRS", d.imageEnv("XDG_DATA_DIRS", "/usr/local/share:/usr/share")+":"+share)
	}
	if icons {
		d.set("XCURSOR_PATH", d.imageEnv("XCURSOR_PATH", "~/.local/share/icons:~/.icons:/usr/share/icons:/usr/share/pixmaps")+":"+share+"/icons")
	}
	return nil
}

// imageEnv is a variable as the image has it.
func (d *gatherer) imageEnv(key, otherwise string) string {
	for _, kv := range d.c.Config.Container.Env {
		if value, ok := strings.CutPrefix(kv, key+"="); ok && value != "" {
			return value
		}
	}
	return otherwise
}

// addUserLooks shows the user's own fonts, icons and themes in a home directory
// that is the container's.
func (d *gatherer) addUserLooks(home *tree.Tree) error {
	for _, rel := range []string{".fonts", ".icons", ".themes", ".local/share/fonts", ".local/share/icons", ".local/share/themes"} {
		source := filepath.Join(d.cfg.HomeDir, rel)
		if fi, err := os.Stat(source); err != nil || !fi.IsDir() {
			continue
		}
		base, uid, gid := d.cfg.HomeDir, d.uid, d.gid
		if home == d.home { // its root is the home directory, its ids are the machine's
			base, uid, gid = "/", uint32(os.Getuid()), uint32(os.Getgid())
		}
		// Each of them is to be the user's.
		for i, c := range rel + "/" {
			if c == '/' {
				if err := home.EnsureDir(filepath.Join(base, rel[:i]), uid, gid, 0o755); err != nil {
					return err
				}
			}
		}
		d.bind(source, source)
	}
	return nil
}

// addLocale passes language and timezone on.
func (d *gatherer) addLocale() error {
	for _, kv := range os.Environ() {
		key, _, _ := strings.Cut(kv, "=")
		if key == "LANG" || key == "LANGUAGE" || strings.HasPrefix(key, "LC_") {
			d.env = environ.Set(d.env, kv)
		}
	}
	return d.addTimezone()
}

// addTimezone names the machine's timezone if the image knows it, and else
// shows its file. It leaves the image's /etc/localtime alone, which packages replace.
func (d *gatherer) addTimezone() error {
	name, given := os.LookupEnv("TZ")
	source := "/etc/localtime"
	if given {
		name = strings.TrimPrefix(name, ":")
		source = filepath.Join(generated.ZoneInfo, name)
		if filepath.IsAbs(name) {
			source = name
		}
	} else if real, err := filepath.EvalSymlinks(source); err == nil {
		if _, after, ok := strings.Cut(real, "/zoneinfo/"); ok {
			name = after
		}
	}
	if d.c.Config.HostBase {
		d.pass("TZ")
		return nil
	}
	if name != "" && !filepath.IsAbs(name) {
		known, err := d.tree.Stat(generated.ZoneInfo+name, true)
		if err != nil {
			return err
		}
		if known != nil {
			d.set("TZ", name)
			return nil
		}
	}
	target := skeleton.HostFiles + "/localtime"
	if fi, err := os.Stat(source); err == nil && fi.Mode().IsRegular() && d.bind(source, target) {
		d.set("TZ", ":"+target)
	} else if given {
		d.pass("TZ") // a rule such as CET-1CEST
	}
	return nil
}
