package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"mica/internal/format"
	"mica/layerstore"
	"mica/run"
)

// imageRow is one line of images.
type imageRow struct {
	Containers, CreatedAt, CreatedSince, Digest, ID, Repository, SharedSize, Size, Tag, UniqueSize, VirtualSize string
}

var imageTable = format.Table{
	Header: format.Header{
		"Containers": "CONTAINERS", "CreatedAt": "CREATED AT", "CreatedSince": "CREATED", "Digest": "DIGEST", "ID": "IMAGE ID",
		"Repository": "REPOSITORY", "SharedSize": "SHARED SIZE", "Size": "SIZE", "Tag": "TAG", "UniqueSize": "UNIQUE SIZE", "VirtualSize": "SIZE",
	},
	Default: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
	Quiet:   "{{.ID}}",
}

func (a *app) newImagesCommand(use string) *cobra.Command {
	var all, noTrunc, digests bool
	var opt format.Options
	var list []string
	c := &cobra.Command{
		Use:               use + " [flags] [NAME[:TAG]]",
		Short:             "List images",
		Example:           lines("mica images", "mica images debian", "mica images --format '{{.ID}} {{.Size}}'", "mica images -q --filter dangling=true"),
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: a.completeImages(1),
	}
	fl := c.Flags()
	fl.BoolVarP(&all, "all", "a", false, "show the steps of builds, too")
	fl.BoolVar(&noTrunc, "no-trunc", false, "do not shorten")
	fl.BoolVar(&digests, "digests", false, "show the digests of the manifests")
	fl.BoolVarP(&opt.Quiet, "quiet", "q", false, "print IDs only")
	fl.StringVar(&opt.Format, "format", "", "table, json, or a Go template")
	fl.StringArrayVarP(&list, "filter", "f", nil, "before, dangling, label, reference, since, until")
	c.RunE = func(_ *cobra.Command, args []string) error {
		flt, err := parseFilters(list, "before", "dangling", "label", "label!", "reference", "since", "until")
		if err != nil {
			return err
		}
		if len(args) == 1 {
			flt["reference"] = append(flt["reference"], args[0])
		}
		s, err := a.store()
		if err != nil {
			return err
		}
		images, broken := s.Images()
		if broken != nil && len(images) == 0 {
			return broken
		}
		keep, err := imageFilter(s, flt)
		if err != nil {
			return err
		}
		table := imageTable
		if digests {
			table.Default = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
		}
		var rows []imageRow
		seen := make(map[string]bool)
		for _, img := range images {
			if img.IsStep() && !all {
				continue
			}
			for _, row := range imageRows(img, keep, noTrunc) {
				if opt.Quiet && seen[row.ID] {
					continue
				}
				seen[row.ID] = true
				rows = append(rows, row)
			}
		}
		return cmp.Or(format.Write(display(), table, opt, rows), broken)
	}
	return c
}

// imageRows are the lines of one image: one for each of its names.
func imageRows(img *layerstore.Image, keep func(*layerstore.Image, string) bool, noTrunc bool) []imageRow {
	names := img.Names
	if len(names) == 0 {
		names = []string{""}
	}
	var rows []imageRow
	for _, name := range names {
		if !keep(img, name) {
			continue
		}
		repo, tag := splitName(name)
		digest := img.RegistryDigest(name).String()
		if name == "" && len(img.Digests) > 0 { // it came by its digest, or its name is another's now
			repo, digest, _ = strings.Cut(img.Digests[0], "@")
		}
		row := imageRow{
			Containers: "N/A", CreatedAt: format.Stamp(img.Created), CreatedSince: format.Ago(img.Created, time.Now()), Digest: digest,
			ID: img.ID, Repository: repo, Tag: tag, Size: format.Size(img.Size), SharedSize: "N/A", UniqueSize: "N/A", VirtualSize: format.Size(img.Size),
		}
		if !noTrunc {
			row.ID = format.ShortID(img.ID)
		}
		rows = append(rows, row)
	}
	return rows
}

// splitName parts NAME:TAG; both are <none> for an untagged image.
func splitName(name string) (repo, tag string) {
	if name == "" {
		return "<none>", "<none>"
	}
	i := strings.LastIndexByte(name, ':')
	if i < 0 || strings.Contains(name[i:], "/") {
		return name, "<none>"
	}
	return name[:i], name[i+1:]
}

// imageFilter makes the test that the filters of images describe, of an image
// and one of its names.
func imageFilter(s *layerstore.Store, f filters) (func(*layerstore.Image, string) bool, error) {
	dangling, hasDangling, err := f.flag("dangling")
	if err != nil {
		return nil, err
	}
	limits := map[string]time.Time{}
	for _, key := range []string{"before", "since"} {
		if len(f[key]) > 0 {
			img, err := s.Resolve(f[key][0])
			if err != nil {
				return nil, fmt.Errorf("filter %s=%s: %w", key, f[key][0], err)
			}
			limits[key] = img.Created
		}
	}
	return func(img *layerstore.Image, name string) bool {
		if hasDangling && (name == "") != dangling {
			return false
		}
		if t, ok := limits["before"]; ok && !img.Created.Before(t) {
			return false
		}
		if t, ok := limits["since"]; ok && !img.Created.After(t) {
			return false
		}
		return f.labels(img.Config.Config.Labels) && f.before(img.Created, time.Now()) &&
			f.any("reference", func(p string) bool { return nameMatches(name, p) })
	}, nil
}

// nameMatches tells whether an image's name is what was asked for: a name, a
// name with a tag, or a pattern.
func nameMatches(name, pattern string) bool {
	repo, _ := splitName(name)
	for _, candidate := range []string{name, repo, path.Base(repo)} {
		if ok, err := path.Match(pattern, candidate); err == nil && ok {
			return true
		}
	}
	return false
}

func (a *app) newTagCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "tag IMAGE NAME[:TAG]",
		Short:             "Give an image a further name",
		Example:           lines("mica tag debian base:1"),
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeImages(1),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.store()
			if err != nil {
				return err
			}
			return s.Tag(args[0], args[1])
		},
	}
}

func (a *app) newUntagCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "untag IMAGE [NAME[:TAG]...]",
		Short:             "Take names of an image away, all if none is given, and leave the image",
		Example:           lines("mica untag debian base:1"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeImages(0),
		RunE: func(_ *cobra.Command, args []string) error {
			s, err := a.store()
			if err != nil {
				return err
			}
			return s.Untag(args[0], args[1:])
		},
	}
}

func (a *app) newRmiCommand(use string) *cobra.Command {
	var all, force, ignore, noPrune bool
	c := &cobra.Command{
		Use:               use + " [flags] IMAGE...",
		Short:             "Remove images, or names of images",
		Example:           lines("mica rmi node-base", "mica rmi -f 3f2a9c0d1e4b", "mica rmi --all"),
		Args:              unlessAll(&all),
		ValidArgsFunction: a.completeImages(0),
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "remove all names of an image at once")
	c.Flags().BoolVarP(&all, "all", "a", false, "all images, with all names; without --force it is an error if containers use some")
	c.Flags().BoolVarP(&ignore, "ignore", "i", false, "do not mind missing images")
	c.Flags().BoolVar(&noPrune, "no-prune", false, "accepted; layers that nothing refers to are always removed")
	c.RunE = func(_ *cobra.Command, args []string) error {
		e, err := a.open()
		if err != nil {
			return err
		}
		s, err := e.Store()
		if err != nil {
			return err
		}
		if all {
			images, err := s.Images()
			if err != nil {
				return err
			}
			for _, img := range images {
				if len(img.Names) == 0 || force {
					args = append(args, img.ID)
				} else {
					args = append(args, img.Names...)
				}
			}
		}
		var failed []error
		for _, ref := range args {
			removed, err := s.Remove(ref, layerstore.RemoveOptions{Force: force, InUse: e.InUse})
			if (force || ignore) && errors.Is(err, layerstore.ErrNotFound) {
				continue
			}
			if err != nil {
				failed = append(failed, err)
				continue
			}
			printRemoved(removed)
		}
		return allOf(failed)
	}
	return c
}

func printRemoved(list []layerstore.Removed) {
	for _, r := range list {
		if r.Untagged != "" {
			fmt.Fprintln(stdout, "Untagged:", r.Untagged)
		}
		if r.Deleted != "" {
			fmt.Fprintln(stdout, "Deleted:", r.Deleted)
		}
	}
}

func (a *app) newImagePruneCommand() *cobra.Command {
	var all, force bool
	var list []string
	c := &cobra.Command{
		Use:     "prune [flags]",
		Short:   "Remove images that have no name, or that no container uses",
		Example: lines("mica image prune -f", "mica image prune -af --filter until=48h"),
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "remove all images that no container uses, not only those without a name")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().StringArrayVar(&list, "filter", nil, "until=DURATION, label=KEY[=VALUE]")
	c.RunE = func(c *cobra.Command, _ []string) error {
		what := "This removes all images without a name."
		if all {
			what = "This removes all images that no container uses."
		}
		if err := confirm(force, what); err != nil {
			return err
		}
		flt, err := parseFilters(list, "until", "label", "label!")
		if err != nil {
			return err
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		return report(pruneImages(c.Context(), e, func(img *layerstore.Image) bool { return all || len(img.Names) == 0 && !img.IsStep() }, flt))
	}
	return c
}

// pruneImages removes the images that no container uses, of those that which names.
func pruneImages(ctx context.Context, e *run.Engine, which func(*layerstore.Image) bool, flt filters) (p pruned, err error) {
	s, err := e.Store()
	if err != nil {
		return p, err
	}
	images, err := s.Images()
	if err != nil {
		return p, err
	}
	var removed []layerstore.Removed
	for _, img := range images {
		if !which(img) || !flt.labels(img.Config.Config.Labels) || !flt.before(img.Created, time.Now()) {
			continue
		}
		if users, err := e.InUse(img.ID); err != nil {
			return p, err
		} else if len(users) > 0 {
			continue
		}
		list, err := s.Remove(img.ID, layerstore.RemoveOptions{Force: true, InUse: e.InUse, If: which})
		if errors.Is(err, layerstore.ErrInUse) || errors.Is(err, layerstore.ErrNotFound) {
			continue // since just now
		}
		if err != nil {
			return p, err
		}
		removed = append(removed, list...)
		for _, l := range img.Layers {
			if slices.ContainsFunc(list, func(r layerstore.Removed) bool { return r.Deleted == l.ChainID.String() }) {
				p.bytes += l.Size
			}
		}
	}
	if len(removed) > 0 {
		fmt.Fprintln(stdout, "Deleted Images:")
		for _, r := range removed {
			if r.Untagged != "" {
				fmt.Fprintln(stdout, "untagged:", r.Untagged)
			}
			if r.Deleted != "" {
				fmt.Fprintln(stdout, "deleted:", r.Deleted)
			}
		}
	}
	gc, err := s.GC(ctx)
	if err != nil {
		return p, err
	}
	p.any, p.bytes = len(removed) > 0, p.bytes+gc.Bytes
	return p, nil
}
