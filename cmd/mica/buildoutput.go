package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"mica/internal/imageref"
	"mica/layerstore"
	"mica/run"
	"mica/run/build"
)

// buildOutput says where the result of a build goes beside the store.
type buildOutput struct {
	kind, dest string // local, tar, oci, docker; empty: nowhere
}

// parseOutput reads --output: a directory, "-" for an archive on standard output, or type=TYPE,dest=PATH.
func parseOutput(s string) (o buildOutput, err error) {
	switch {
	case s == "":
		return o, nil
	case s == "-":
		return buildOutput{"tar", "-"}, nil
	case !strings.Contains(s, "="):
		return buildOutput{"local", s}, nil
	}
	for field := range strings.SplitSeq(s, ",") {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "type":
			o.kind = value
		case "dest":
			o.dest = value
		case "name", "push", "compression":
			return o, fmt.Errorf("--output %q: %s is not possible: use -t, and mica push", s, key)
		default:
			return o, fmt.Errorf("--output %q: want type=TYPE,dest=PATH", s)
		}
	}
	switch o.kind {
	case "image", "docker", "oci", "tar", "local":
	default:
		return o, fmt.Errorf("--output %q: want the type local, tar, oci or docker", s)
	}
	if o.kind == "image" && o.dest != "" {
		return o, fmt.Errorf("--output %q: an image has no dest; want the type oci or docker", s)
	}
	if o.dest == "" && (o.kind == "image" || o.kind == "docker") {
		return buildOutput{}, nil // into the store, where it is
	}
	if o.dest == "" {
		return o, fmt.Errorf("--output %q: it has no dest=PATH", s)
	}
	return o, nil
}

// writeMetadata writes what Docker's build tells programs of an image that it has made.
func writeMetadata(file string, s *layerstore.Store, id string, tags []string) error {
	img, err := s.Resolve(id)
	if err != nil {
		return err
	}
	meta := map[string]string{"containerimage.config.digest": img.ID, "containerimage.digest": img.Manifest.String()}
	if len(tags) > 0 {
		var names []string
		for _, tag := range tags {
			named, err := imageref.Parse(tag)
			if err != nil {
				return err
			}
			names = append(names, named.FullTagged())
		}
		meta["image.name"] = strings.Join(names, ",")
	}
	text, err := json.MarshalIndent(meta, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// write puts the image there.
func (o buildOutput) write(ctx context.Context, e *run.Engine, id string, tags []string) error {
	switch o.kind {
	case "":
		return nil
	case "local":
		return build.WriteTo(ctx, e, id, o.dest)
	}
	file := o.dest
	if file == "-" {
		file = "" // which is standard output
	}
	return writeOutput(file, func(w io.Writer) error {
		if o.kind == "tar" {
			return build.WriteArchive(ctx, e, id, w)
		}
		s, err := e.Store()
		if err != nil {
			return err
		}
		format := layerstore.OCIArchive
		if o.kind == "docker" {
			format = layerstore.DockerArchive
		}
		if len(tags) == 0 {
			tags = []string{id}
		}
		return s.Save(ctx, w, tags, format)
	})
}
