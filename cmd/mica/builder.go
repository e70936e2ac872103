package main

import (
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"mica/layerstore"
	"mica/run"
	"mica/run/build"
	"mica/run/volume"
)

func (a *app) newBuilderPruneCommand() *cobra.Command {
	var all, force bool
	var list []string
	c := &cobra.Command{
		Use: "prune [flags]", Short: "Remove steps of builds that no named image is made of",
		Example: lines("mica builder prune -f", "mica builder prune -af"), Args: cobra.NoArgs,
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "remove all steps, and what RUN --mount=type=cache has kept")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().StringArrayVar(&list, "filter", nil, "until=DURATION")
	c.RunE = func(c *cobra.Command, _ []string) error {
		flt, err := parseFilters(list, "until")
		if err != nil {
			return err
		}
		what := "This removes the steps of builds that no named image is made of."
		if all {
			what = "This removes all steps of builds, and all that commands have kept in caches."
		}
		if err := confirm(force, what); err != nil {
			return err
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		which := (*layerstore.Image).IsStep
		if !all {
			if which, err = unusedSteps(e); err != nil {
				return err
			}
		}
		p, err := pruneImages(c.Context(), e, which, flt)
		if err != nil || !all {
			return report(p, err)
		}
		v, err := pruneVolumes(e, func(v *volume.Volume) bool { return build.IsCache(v) && flt.before(v.Created, time.Now()) })
		p.any, p.bytes = p.any || v.any, p.bytes+v.bytes
		return report(p, err)
	}
	return c
}

// builderGroup has the commands of Docker's that concern builds; buildx is what its users type.
func (a *app) builderGroup() *cobra.Command {
	g := group("builder", "Manage builds", a.newBuildCommand(), a.newBuilderPruneCommand())
	g.Aliases = []string{"buildx"}
	return g
}

// unusedSteps tells of an image whether it is a step of a build whose layers no named image begins with.
func unusedSteps(e *run.Engine) (func(*layerstore.Image) bool, error) {
	s, err := e.Store()
	if err != nil {
		return nil, err
	}
	images, err := s.Images()
	if err != nil {
		return nil, err
	}
	used := make(map[digest.Digest]bool) // chains of layers
	for _, img := range images {
		for _, l := range img.Layers {
			used[l.ChainID] = used[l.ChainID] || len(img.Names) > 0
		}
	}
	return func(img *layerstore.Image) bool {
		top := len(img.Layers) - 1
		return img.IsStep() && (top < 0 || !used[img.Layers[top].ChainID])
	}, nil
}
