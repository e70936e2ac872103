// Package skeleton makes layers of mount points. They lie below all layers of a container, so that what is mounted in it
// has its place there, and is no change of the container's.
package skeleton

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"mica/run/record"
)

// Resolver tells where paths of a container lead in the tree of its image, which they may do through symlinks.
type Resolver func(paths []string) ([]string, error)

// Layers are the layers of a container that lie below all others, topmost first: they have the mount points that
// its image may lack, so that those are no change of the container's.
func Layers(c *record.Container, resolve Resolver) ([]string, error) {
	if c.Config.Step == record.StepFiles {
		return nil, nil
	}
	containers := filepath.Dir(c.Path())
	dir, err := common(c)
	if err != nil {
		return nil, err
	}
	layers := []string{dir}
	if c.Config.Step == record.StepCommand {
		if dir, err = mountPoints(c, resolve); err != nil {
			return nil, err
		}
		layers = append(layers, dir)
	}
	if d := c.Config.Host.Desktop; d != nil {
		if dir, err = desktopSkeleton(containers, d); err != nil {
			return nil, err
		}
		layers = append(layers, dir)
	}
	return layers, nil
}

// mountPoints is a layer with the places of a container's own mounts.
func mountPoints(c *record.Container, resolve Resolver) (string, error) {
	dir := filepath.Join(c.Path(), "skeleton")
	fail := func(err error) (string, error) { return "", fmt.Errorf("make the mount points: %w", err) }
	mounts := c.Config.Host.Mounts
	var points []string
	for _, m := range mounts {
		points = append(points, m.Target)
	}
	points, err := resolve(points)
	if err != nil {
		return fail(err)
	}
	if err := makeDir(dir, "."); err != nil {
		return fail(err)
	}
	for n, m := range mounts {
		if _, err := os.Lstat(filepath.Join(dir, points[n])); err == nil {
			continue // whatever has become of the source since
		}
		place := makeDir
		if fi, err := os.Stat(m.Source); m.File || m.Type == record.MountBind && err == nil && !fi.IsDir() {
			place = makeFile
		}
		if err := place(dir, points[n]); err != nil {
			return fail(err)
		}
	}
	return dir, nil
}

// makeDir makes a directory in a layer, with those on the way, if it is missing. Everybody may enter them, whatever the umask.
func makeDir(layer, name string) error {
	name = filepath.Clean("/" + name)
	if name != "/" {
		if err := makeDir(layer, filepath.Dir(name)); err != nil {
			return err
		}
	}
	dir := filepath.Join(layer, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		if fi, statErr := os.Lstat(dir); statErr != nil || !fi.IsDir() {
			return err
		}
		return nil
	}
	return os.Chmod(dir, 0o755)
}

// makeFile makes an empty file in a layer, with the directories on the way, if it is missing.
func makeFile(layer, name string) error {
	name = filepath.Clean("/" + name)
	if err := makeDir(layer, filepath.Dir(name)); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(layer, name), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o644), f.Close())
}

// common is a layer that has nothing but the mount points that every container needs, and marks. It is made once for all
// containers. Commands of builds have one without marks: what they find is to depend on the image alone.
func common(c *record.Container) (string, error) {
	dir := marked(c)
	last := "run/" + mark
	if c.Config.Step != "" {
		dir, last = filepath.Join(filepath.Dir(c.Path()), "skeleton-step"), "sys"
	}
	if _, err := os.Lstat(filepath.Join(dir, last)); err == nil {
		return dir, nil
	}
	fail := func(err error) (string, error) { return "", fmt.Errorf("make the mount points: %w", err) }
	for _, name := range []string{"hostname", "hosts", "resolv.conf"} {
		if err := makeFile(dir, filepath.Join("etc", name)); err != nil {
			return fail(err)
		}
	}
	for _, sub := range []string{"dev", "proc", "sys"} {
		if err := makeDir(dir, sub); err != nil {
			return fail(err)
		}
	}
	if c.Config.Step != "" {
		return dir, nil
	}
	if err := os.Symlink("/proc/mounts", filepath.Join(dir, "etc", mountTable)); err != nil && !errors.Is(err, os.ErrExist) {
		return fail(err)
	}
	if err := makeFile(dir, last); err != nil {
		return fail(err)
	}
	return dir, nil
}

// The marks are what programs look for in a container: a file that says that it is one, where Podman has it, and the table
// of mounts by its old name.
const (
	mark       = ".containerenv"
	mountTable = "mtab"
)

// marked is the layer of all containers with marks.
func marked(c *record.Container) string { return filepath.Join(filepath.Dir(c.Path()), "skeleton") }

// IsMark tells whether name in a lower layer of a container is there for a mark alone. That does not belong to what a container is
// exported as.
func IsMark(c *record.Container, layer, name string) bool {
	return layer == marked(c) && (name == "run" || name == mark || name == mountTable)
}
