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

// Layers are the layers of a container that lie below all others, topmost first: they have the mount points that
// its image may lack, so that those are no change of the container's.
func Layers(c *record.Container) ([]string, error) {
	if c.Config.Step == record.StepFiles {
		return nil, nil
	}
	containers := filepath.Dir(c.Path())
	dir, err := skeletonDir(containers)
	if err != nil {
		return nil, err
	}
	layers := []string{dir}
	if c.Config.Step == record.StepCommand {
		if dir, err = mountPoints(c); err != nil {
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
func mountPoints(c *record.Container) (string, error) {
	dir := filepath.Join(c.Path(), "skeleton")
	fail := func(err error) (string, error) { return "", fmt.Errorf("make the mount points: %w", err) }
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fail(err)
	}
	for _, m := range c.Config.Host.Mounts {
		point := filepath.Join(dir, filepath.Clean("/"+m.Target))
		fi, err := os.Stat(m.Source)
		isFile := m.File || m.Type == record.MountBind && err == nil && !fi.IsDir()
		if isFile {
			point = filepath.Dir(point)
		}
		if err := os.MkdirAll(point, 0o755); err != nil {
			return fail(err)
		}
		if !isFile {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, filepath.Clean("/"+m.Target)), os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return fail(err)
		}
		f.Close()
	}
	return dir, nil
}

// skeletonDir is a layer that has nothing but the mount points that every
// container needs. It is made once for all containers.
func skeletonDir(containers string) (string, error) {
	dir := filepath.Join(containers, "skeleton")
	if _, err := os.Lstat(filepath.Join(dir, "sys")); err == nil { // made last
		return dir, nil
	}
	fail := func(err error) (string, error) { return "", fmt.Errorf("make the mount points: %w", err) }
	for _, sub := range []string{"etc", "dev", "proc"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return fail(err)
		}
	}
	for _, name := range []string{"hostname", "hosts", "resolv.conf"} {
		f, err := os.OpenFile(filepath.Join(dir, "etc", name), os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return fail(err)
		}
		f.Close()
	}
	if err := os.Mkdir(filepath.Join(dir, "sys"), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fail(err)
	}
	return dir, nil
}
