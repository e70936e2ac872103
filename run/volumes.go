package run

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"mica/run/mounted"
	"mica/run/record"
	"mica/run/userns"
	"mica/run/volume"
)

// Volumes are the named volumes of the store.
func (e *Engine) Volumes() *volume.Dir { return volume.Open(filepath.Join(e.root, "volumes")) }

// prepareVolumes makes the volumes that the container asks for and one for
// each VOLUME of its image that nothing else is mounted at. It gives those that it made without being told a
// name, also with an error, to drop them if the container does not come about.
func (e *Engine) prepareVolumes(cfg *record.Config) (made []*volume.Volume, err error) {
	taken := make(map[string]bool)
	for _, m := range cfg.Host.Mounts {
		if taken[m.Target] {
			return nil, fmt.Errorf("two mounts at %s: leave one out", m.Target)
		}
		taken[m.Target] = true
	}
	var targets []string
	for target := range cfg.Container.Volumes {
		if target = path.Clean(target); path.IsAbs(target) && target != "/" && !taken[target] {
			targets = append(targets, target)
		}
	}
	sort.Strings(targets)
	for _, target := range targets {
		cfg.Host.Mounts = append(cfg.Host.Mounts, record.Mount{Type: record.MountVolume, Target: target})
	}
	for i := range cfg.Host.Mounts {
		m := &cfg.Host.Mounts[i]
		if m.Type != record.MountVolume {
			continue
		}
		if m.Volume == "" {
			v, err := e.Volumes().Create("", nil)
			if err != nil {
				return made, err
			}
			made = append(made, v)
			m.Volume, m.Anonymous, m.Source = v.Name, true, v.Data
			continue
		}
		v, err := e.Volumes().Ensure(m.Volume)
		if err != nil {
			return made, err
		}
		m.Source = v.Data
	}
	return made, nil
}

// resolveSources follows the user's symlinks to what is mounted from the host, once and for all: later ones may be the work
// of a container that has a part of the way mounted.
func resolveSources(mounts []record.Mount) (err error) {
	for i := range mounts {
		m := &mounts[i]
		if m.Type != record.MountBind {
			continue
		}
		if m.Source, err = filepath.EvalSymlinks(m.Source); err != nil {
			return fmt.Errorf("mount at %s: %w", m.Target, err)
		}
	}
	return nil
}

// takeMounts adds the volumes and host paths of the containers in VolumesFrom where nothing else is mounted.
func (e *Engine) takeMounts(h *record.HostConfig) error {
	for _, spec := range h.VolumesFrom {
		name, mode, _ := strings.Cut(spec, ":")
		if mode != "" && mode != "ro" && mode != "rw" && mode != "z" {
			return fmt.Errorf("mounts of container %q: want NAME, NAME:ro or NAME:rw", spec)
		}
		c, err := e.Containers.Find(name)
		if err != nil {
			return err
		}
		for _, m := range c.Config.Host.Mounts {
			taken := slices.ContainsFunc(h.Mounts, func(have record.Mount) bool { return path.Clean(have.Target) == path.Clean(m.Target) })
			if m.Type == record.MountTmpfs || m.IsUnion() || taken {
				continue
			}
			m.Anonymous = false // it stays the other one's
			m.ReadOnly = m.ReadOnly || mode == "ro"
			h.Mounts = append(h.Mounts, m)
		}
	}
	return nil
}

func (e *Engine) dropVolumes(list []*volume.Volume) {
	for _, v := range list {
		_ = e.Volumes().Remove(v, func() error { return nil }, os.RemoveAll)
	}
}

// VolumeUsers lists the containers that mount each volume, by volume. It is an error if that of some is not known.
func (e *Engine) VolumeUsers() (map[string][]string, error) {
	list, err := e.readable()
	if err != nil {
		return nil, err
	}
	users := make(map[string][]string)
	for _, c := range list {
		for _, m := range c.Config.Host.Mounts {
			if m.Type == record.MountVolume {
				users[m.Volume] = append(users[m.Volume], c.ID()[:12])
			}
		}
	}
	return users, nil
}

// RemoveVolume deletes a volume that no container uses; [volume.ErrInUse] says that one does.
func (e *Engine) RemoveVolume(name string) error {
	v, err := e.Volumes().Get(name)
	if err != nil {
		return err
	}
	return e.Volumes().Remove(v, func() error { return e.unused(name) }, userns.RemoveAll)
}

// unused is an error where a container uses a volume, or that is not known.
func (e *Engine) unused(name string) error {
	users, err := e.VolumeUsers()
	if err != nil {
		return err
	}
	if ids := users[name]; len(ids) > 0 {
		return fmt.Errorf("%w by container %s: %s; remove that first", volume.ErrInUse, ids[0], name)
	}
	return nil
}

// RemoveAnonymous deletes the volumes that were made for this container, which is gone, and that no other one has taken over.
func (e *Engine) RemoveAnonymous(cfg *record.Config) error {
	for _, m := range cfg.Host.Mounts {
		if m.Type != record.MountVolume || !m.Anonymous {
			continue
		}
		err := e.RemoveVolume(m.Volume)
		switch {
		case errors.Is(err, volume.ErrInUse), errors.Is(err, volume.ErrNotFound):
		case errors.Is(err, errDamagedContainer): // it may have taken it over: `volume prune` removes it when that is gone
		case err != nil:
			return err
		}
	}
	return nil
}

// settleVolumes does what a supervisor that was killed could not do at its end.
func (e *Engine) settleVolumes(cfg *record.Config) error {
	hold, err := mounted.HoldsVolumes(cfg)
	if !hold {
		return err
	}
	for _, m := range cfg.Host.Mounts {
		if m.Type != record.MountVolume {
			continue
		}
		if v, getErr := e.Volumes().Get(m.Volume); getErr == nil {
			err = errors.Join(err, v.Settle(userns.RunDefault))
		}
	}
	return err
}
