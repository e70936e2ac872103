package main

import (
	"errors"

	"github.com/spf13/cobra"

	"mica/layerstore"
	"mica/run/record"
	"mica/run/volume"
)

// newExistsCommand makes `container exists`, `image exists` and `volume exists`.
func (a *app) newExistsCommand(kind inspectKind) *cobra.Command {
	what := [...]string{inspectContainers: "container", inspectImages: "image", inspectVolumes: "volume"}[kind]
	c := &cobra.Command{
		Use:     "exists NAME",
		Short:   "Tell by the exit code whether there is such " + map[bool]string{true: "an ", false: "a "}[what == "image"] + what + ": 0, or 1 for none",
		Example: lines("mica " + what + " exists web || echo none"),
		Args:    cobra.ExactArgs(1),
	}
	switch kind {
	case inspectImages:
		c.ValidArgsFunction = a.completeImages(1)
	case inspectVolumes:
		c.ValidArgsFunction = a.completeVolumes
	default:
		c.ValidArgsFunction = a.completeContainers(anyState, 1)
	}
	c.RunE = func(_ *cobra.Command, args []string) error {
		e, err := a.open()
		if err != nil {
			return err
		}
		switch kind {
		case inspectImages:
			_, err = e.Image(args[0])
		case inspectVolumes:
			_, err = e.Volumes().Get(args[0])
		default:
			_, err = e.Containers.Find(args[0])
		}
		if errors.Is(err, record.ErrNotFound) || errors.Is(err, layerstore.ErrNotFound) || errors.Is(err, volume.ErrNotFound) {
			return exitCode(1)
		}
		return err
	}
	return c
}
