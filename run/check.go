package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"mica/cow"
	"mica/run/home"
	"mica/run/record"
	"mica/run/tree"
	"mica/run/userns"
)

// ContainerProblem is one thing wrong among the containers.
type ContainerProblem struct {
	Path     string // relative to the store's root
	What     string
	Repaired bool
}

// String is the problem as one line.
func (p ContainerProblem) String() string {
	s := p.Path + ": " + p.What
	if p.Repaired {
		s += " (repaired)"
	}
	return s
}

// CheckContainers looks for containers that cannot be read or whose image is
// gone, and into the upper directories of those that nobody uses, and for volumes that nobody uses and are not the user's. With
// repair, what is of no use to anybody is removed, and what was written is made durable.
func (e *Engine) CheckContainers(ctx context.Context, repair bool) ([]ContainerProblem, error) {
	entries, err := os.ReadDir(e.Containers.Path())
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var list []ContainerProblem
	for _, entry := range entries {
		if len(entry.Name()) != 64 {
			continue
		}
		problems, err := e.checkContainer(ctx, filepath.Join("containers", entry.Name()), repair)
		if err != nil {
			return list, err
		}
		list = append(list, problems...)
	}
	volumes, err := e.checkVolumes(repair)
	return append(list, volumes...), err
}

// checkVolumes looks for volumes that supervisors which were killed have not given back.
func (e *Engine) checkVolumes(repair bool) (list []ContainerProblem, err error) {
	volumes, err := e.Volumes().List()
	if err != nil {
		return nil, err
	}
	busy, err := e.mountedVolumes()
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		if busy[v.Name] {
			continue
		}
		found := func(what string, repaired bool) {
			list = append(list, ContainerProblem{Path: filepath.Join("volumes", v.Name), What: what, Repaired: repaired})
		}
		due, err := v.Unsettled()
		if err == nil && due {
			if repair {
				err = v.Settle(userns.RunDefault)
			}
			found("directories in it are not yours, though no container has it", repair && err == nil)
		}
		if err != nil {
			found(err.Error(), false)
		}
	}
	return list, nil
}

// mountedVolumes are those of containers that run. One with other ids than usual does not hold them.
func (e *Engine) mountedVolumes() (map[string]bool, error) {
	containers, err := e.Containers.List()
	if err != nil {
		return nil, err
	}
	busy := make(map[string]bool)
	for _, c := range containers {
		for _, m := range c.Config.Host.Mounts {
			if m.Type == record.MountVolume && c.State.Alive() {
				busy[m.Volume] = true
			}
		}
	}
	return busy, nil
}

// checkContainer checks the container in a directory below the store's root.
func (e *Engine) checkContainer(ctx context.Context, rel string, repair bool) (list []ContainerProblem, err error) {
	found := func(what string, repaired bool) {
		list = append(list, ContainerProblem{Path: rel, What: what, Repaired: repaired})
	}
	c, err := record.Load(filepath.Join(e.root, rel))
	if errors.Is(err, record.ErrNotFound) {
		return nil, nil // it is just being made, or goes with the next command
	}
	if err != nil {
		found(err.Error(), false)
		return list, nil
	}
	lowers, err := e.layersOf(ctx, c)
	switch {
	case err != nil && err == c.Broken:
		found(err.Error(), false)
		return list, nil
	case err != nil:
		found(fmt.Sprintf("its image %s: %v", c.Config.Image, err), false)
		return list, ctx.Err()
	}
	for _, dir := range []string{c.Upper(), c.Work()} {
		if _, err := os.Stat(dir); err != nil {
			found(filepath.Base(dir)+" is missing", repair && dir == c.Work() && os.Mkdir(dir, 0o700) == nil)
			return list, nil
		}
	}
	stack, err := tree.Stack(c, lowers)
	if err != nil {
		return list, err
	}
	unions := []cow.Config{{Lowers: stack, Upper: c.Upper(), Work: c.Work()}}
	if _, err := os.Stat(c.HomeUpper()); err == nil && home.IsUnion(c.Config) {
		unions = append(unions, home.Config(c))
	}
	for _, cfg := range unions {
		problems, err := cow.Check(cfg, repair)
		if errors.Is(err, cow.ErrInUse) {
			continue // whoever uses it sees what is wrong
		}
		for _, p := range problems {
			list = append(list, ContainerProblem{Path: filepath.Join(rel, p.Path), What: p.What, Repaired: p.Repaired})
		}
		if err != nil {
			found(err.Error(), false)
		}
	}
	return list, nil
}
