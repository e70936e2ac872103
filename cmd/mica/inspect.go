package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mica/internal/format"
	"mica/layerstore"
	"mica/run"
	"mica/run/record"
	"mica/run/volume"
)

// inspectKind says what an inspect command looks among.
type inspectKind int

const (
	inspectAny inspectKind = iota
	inspectContainers
	inspectImages
	inspectVolumes
)

func (a *app) newInspectCommand(kind inspectKind) *cobra.Command {
	var text, only string
	var size bool
	what := [...]string{"a container, image or volume", "a container", "an image", "a volume"}[kind]
	c := &cobra.Command{
		Use:     "inspect [flags] NAME...",
		Short:   "Show all there is to know about " + what,
		Example: lines("mica inspect web", "mica inspect -f '{{.State.Status}} {{.State.ExitCode}}' web"),
		Args:    cobra.MinimumNArgs(1),
	}
	switch kind {
	case inspectImages:
		c.ValidArgsFunction = a.completeImages(0)
	case inspectVolumes:
		c.ValidArgsFunction = a.completeVolumes
	default:
		c.ValidArgsFunction = a.completeContainers(anyState, 0)
	}
	c.Flags().StringVarP(&text, "format", "f", "", "json, or a Go template")
	if kind == inspectAny {
		c.Flags().StringVar(&only, "type", "", "container, image or volume")
	}
	if kind == inspectAny || kind == inspectContainers {
		c.Flags().BoolVarP(&size, "size", "s", false, "show the sizes of containers")
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		k := kind
		switch only {
		case "":
		case "container":
			k = inspectContainers
		case "image":
			k = inspectImages
		case "volume":
			k = inspectVolumes
		default:
			return fmt.Errorf("type %q: want container, image or volume", only)
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		objects := []any{}
		var failed []error
		for _, ref := range args {
			o, err := lookUp(c, e, k, ref, size)
			if err != nil {
				failed = append(failed, err)
				continue
			}
			objects = append(objects, o)
		}
		if err := printObjects(text, objects); err != nil {
			return err
		}
		return allOf(failed)
	}
	return c
}

func printObjects(text string, objects []any) error {
	if text == "" || text == "json" {
		return format.Indented(display(), objects)
	}
	for _, o := range objects {
		if err := format.Execute(display(), text, o); err != nil {
			return err
		}
	}
	return nil
}

func lookUp(c *cobra.Command, e *run.Engine, kind inspectKind, ref string, size bool) (any, error) {
	if ref == "" {
		return nil, errors.New("no such object: the name is empty")
	}
	if kind == inspectAny || kind == inspectContainers {
		ct, err := e.Containers.Find(ref)
		if err == nil {
			doc := containerDocument(e, ct)
			if size {
				if own, all, err := containerSizes(c.Context(), e, ct); err == nil {
					doc.SizeRw, doc.SizeRootFs = &own, &all
				}
			}
			return doc, nil
		}
		if kind == inspectContainers || !errors.Is(err, record.ErrNotFound) {
			return nil, err
		}
	}
	if kind == inspectAny || kind == inspectImages {
		img, err := e.Image(ref)
		if err == nil {
			return imageDocument(e, img), nil
		}
		if kind == inspectImages || !errors.Is(err, layerstore.ErrNotFound) {
			return nil, err
		}
	}
	v, err := e.Volumes().Get(ref)
	if err == nil {
		return volumeDocument(v), nil
	}
	if kind == inspectVolumes || !errors.Is(err, volume.ErrNotFound) {
		return nil, err
	}
	return nil, fmt.Errorf("no such object: %s: there is no container, image or volume of that name", ref)
}
