package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"mica/internal/format"
	"mica/layerstore"
	"mica/run"
	"mica/run/volume"
)

// printDiskDetails lists what each image, container, volume and step of a build takes. The error of images that cannot be
// read comes at the end.
func printDiskDetails(ctx context.Context, e *run.Engine) error {
	s, err := e.Store()
	if err != nil {
		return err
	}
	images, broken := s.Images()
	containers, err := e.Containers.List()
	if err != nil {
		return err
	}
	users := make(map[string]int) // containers by their image's ID
	var containerRows []containerRow
	for _, ct := range containers {
		users[ct.Config.ImageID]++
		row := newContainerRow(ct, false, time.Now())
		row.Size = containerSize(ctx, e, ct)
		containerRows = append(containerRows, row)
	}
	var named, steps []imageRow
	shared := sharedSizes(images)
	for _, img := range images {
		rows := imageRows(img, func(*layerstore.Image, string) bool { return true }, false)
		for i := range rows {
			rows[i].SharedSize, rows[i].UniqueSize = format.Size(shared[img.ID]), format.Size(img.Size-shared[img.ID])
			rows[i].Containers = strconv.Itoa(users[img.ID])
		}
		if img.IsStep() {
			steps = append(steps, rows...)
		} else {
			named = append(named, rows...)
		}
	}
	volumes, err := volumeRows(e, func(*volume.Volume, bool) bool { return true })
	if err != nil {
		return err
	}
	for i := range volumes {
		volumes[i].Size = format.Size(run.DiskUsage(volumes[i].Mountpoint))
	}
	return cmp.Or(
		printDetails("Images", imageTable, "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}", named),
		printDetails("\nContainers", containerTable, "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}", containerRows),
		printDetails("\nLocal Volumes", volumeTable, "{{.Name}}\t{{.Links}}\t{{.Size}}", volumes),
		printDetails("\nBuild Cache", imageTable, "{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}", steps),
		broken,
	)
}

// printDetails prints a table under a title.
func printDetails[Row any](title string, table format.Table, columns string, rows []Row) error {
	fmt.Fprintf(stdout, "%s space usage:\n\n", title)
	table.Default = columns
	return format.Write(display(), table, format.Options{}, rows)
}

// sharedSizes tells by the ID of an image how much of it lies in layers that other images have, too.
func sharedSizes(images []*layerstore.Image) map[string]int64 {
	holders := make(map[string]int)
	for _, img := range images {
		for _, l := range img.Layers {
			holders[l.ChainID.String()]++
		}
	}
	shared := make(map[string]int64)
	for _, img := range images {
		for _, l := range img.Layers {
			if holders[l.ChainID.String()] > 1 {
				shared[img.ID] += l.Size
			}
		}
	}
	return shared
}
