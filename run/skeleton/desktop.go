package skeleton

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"mica/internal/ondisk"
	"mica/run/record"
)

// desktopSkeleton is a layer below all others that has the mount points of the
// desktop, and what leads fontconfig to the machine's fonts. So neither is a change of the container's.
func desktopSkeleton(containers string, d *record.Desktop) (string, error) {
	root := filepath.Join(containers, "skeleton-desktop")
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("make the mount points of the desktop: %w", err)
	}
	var dirs []string
	if d.Display {
		dirs = append(dirs, HostFiles, X11Sockets, "/etc/fonts/conf.d", "/run/user/0", "/run/user/"+strconv.Itoa(os.Getuid()))
	}
	if d.Home != record.HomePrivate {
		dirs = append(dirs, d.HomeDir)
	}
	for _, dir := range dirs {
		if err := makeDir(root, dir); err != nil {
			return fail(err)
		}
	}
	if !d.Display {
		return root, makeDir(root, ".")
	}
	conf := filepath.Join(root, "etc/fonts/conf.d/05-mica-host.conf")
	if _, err := os.Lstat(conf); err == nil { // made last
		return root, nil
	}
	for _, dir := range []string{"/tmp", X11Sockets} {
		if err := ondisk.SetMeta(unix.AT_FDCWD, filepath.Join(root, dir), ondisk.Meta{Mode: unix.S_IFDIR | 0o1777}); err != nil {
			return fail(err)
		}
	}
	tmp, err := os.CreateTemp(containers, ".skeleton-")
	if err != nil {
		return fail(err)
	}
	_, err = tmp.WriteString(hostFontsConf)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), conf)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fail(err)
	}
	return root, nil
}

// HostFiles is where a container finds files of the machine that it has at the
// same place itself.
const HostFiles = "/run/host"

// hostFontsConf leads fontconfig to the machine's fonts.
const hostFontsConf = `<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><dir>` + HostFiles + `/fonts</dir></fontconfig>
`

// X11Sockets is where X servers listen. The same path as an abstract socket
// belongs to the network namespace, not to the filesystem.
const X11Sockets = "/tmp/.X11-unix"
