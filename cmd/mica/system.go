package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"mica/internal/format"
	"mica/internal/version"
	"mica/layerstore"
	"mica/run"
	"mica/run/volume"
)

func (a *app) systemGroup() *cobra.Command {
	return group("system", "Look after the store", a.newSystemCheckCommand(), a.newSystemDfCommand(), a.newSystemPruneCommand(), a.newInfoCommand())
}

func (a *app) newSystemCheckCommand() *cobra.Command {
	var repair, quiet bool
	c := &cobra.Command{
		Use:   "check [flags]",
		Short: "Verify every digest and reference of the store",
		Long: `Verify every digest and reference of the store, and look into what containers that do not run have changed: the
records of their files, and leftovers of a process or machine that died, such as volumes that are not yours. The exit code is 0 when nothing is wrong, or
when all that was wrong has been repaired, and 1 otherwise.`,
		Example: lines("mica system check", "mica system check --repair"),
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVar(&repair, "repair", false, "remove what is broken or unreferenced, and make durable what a killed container had written")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print problems only")
	c.RunE = func(c *cobra.Command, _ []string) error {
		e, err := a.open()
		if err != nil {
			return err
		}
		s, err := e.Store()
		if err != nil {
			return err
		}
		report, err := s.Check(c.Context(), repair)
		if err != nil {
			return err
		}
		clean := report.Clean()
		for _, p := range report.Problems {
			repaired := ""
			if p.Repaired {
				repaired = " (repaired)"
			}
			fmt.Fprintf(stdout, "%s: %s%s\n", format.Printable(p.Path), format.Printable(p.What), repaired)
		}
		containers, err := e.CheckContainers(c.Context(), repair)
		if err != nil {
			return err
		}
		for _, p := range containers {
			fmt.Fprintln(stdout, format.Printable(fmt.Sprint(p)))
			clean = clean && p.Repaired
		}
		if !clean {
			return exitCode(1)
		}
		if !quiet {
			list, err := e.Containers.List()
			if err != nil {
				return err
			}
			fmt.Fprintf(stdout, "The store is clean: %d images, %d blobs, %d layers, %d containers.\n", report.Images, report.Blobs, report.Layers, len(list))
		}
		return nil
	}
	return c
}

// dfRow is one line of system df.
type dfRow struct {
	Active, Reclaimable, Size, TotalCount, Type string
}

var dfTable = format.Table{
	Header:  format.Header{"Active": "ACTIVE", "Reclaimable": "RECLAIMABLE", "Size": "SIZE", "TotalCount": "TOTAL", "Type": "TYPE"},
	Default: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
	Quiet:   "{{.Type}}",
}

func (a *app) newSystemDfCommand() *cobra.Command {
	var opt format.Options
	var verbose bool
	c := &cobra.Command{
		Use: "df [flags]", Short: "Show what the store takes on disk", Example: lines("mica system df", "mica system df -v"), Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&opt.Format, "format", "", "table, json, or a Go template")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "show what each image, container and volume takes")
	c.RunE = func(c *cobra.Command, _ []string) error {
		e, err := a.open()
		if err != nil {
			return err
		}
		if verbose && opt.Format != "" {
			return errors.New("--verbose and --format exclude each other: leave one out")
		}
		if verbose {
			return printDiskDetails(c.Context(), e)
		}
		use, broken := e.DiskUse(c.Context())
		if use == nil {
			return broken
		}
		var rows []dfRow
		for _, u := range use {
			percent := 0
			if u.Size > 0 {
				percent = int(u.Reclaimable * 100 / u.Size)
			}
			rows = append(rows, dfRow{
				Type: u.Type, TotalCount: fmt.Sprint(u.Total), Active: fmt.Sprint(u.Active), Size: format.Size(u.Size),
				Reclaimable: fmt.Sprintf("%s (%d%%)", format.Size(u.Reclaimable), percent),
			})
		}
		return cmp.Or(format.Write(display(), dfTable, opt, rows), broken)
	}
	return c
}

func (a *app) newSystemPruneCommand() *cobra.Command {
	var all, force, volumes bool
	var list []string
	c := &cobra.Command{
		Use: "prune [flags]", Short: "Remove what is not used: stopped containers, images, volumes",
		Example: lines("mica system prune -f", "mica system prune -af --volumes"), Args: cobra.NoArgs,
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "remove all images that no container uses, not only those without a name")
	c.Flags().BoolVar(&volumes, "volumes", false, "remove anonymous volumes too")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().StringArrayVar(&list, "filter", nil, "until=DURATION, label=KEY[=VALUE]")
	c.RunE = func(c *cobra.Command, _ []string) error {
		flt, err := parseFilters(list, "until", "label", "label!")
		if err != nil {
			return err
		}
		if volumes && len(flt["until"]) > 0 {
			return errors.New("filter until= does not go with --volumes: leave one of them out")
		}
		if err := confirm(force, pruneQuestion(all, volumes)); err != nil {
			return err
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		return pruneAll(c.Context(), e, all, volumes, flt)
	}
	return c
}

// pruneQuestion says what a prune removes.
func pruneQuestion(all, volumes bool) string {
	what := "This removes all stopped containers and all images without a name that no container uses."
	if all {
		what = "This removes all stopped containers and all images that no container uses."
	}
	if volumes {
		what += " It removes all anonymous volumes that no container uses, with what is in them."
	}
	return what
}

func pruneAll(ctx context.Context, e *run.Engine, all, volumes bool, flt filters) error {
	parts := []func() (pruned, error){func() (pruned, error) { return pruneContainers(ctx, e, flt) }}
	if volumes {
		parts = append(parts, func() (pruned, error) {
			return pruneVolumes(e, func(v *volume.Volume) bool { return v.Anonymous && flt.labels(v.Labels) })
		})
	}
	parts = append(parts, func() (pruned, error) {
		return pruneImages(ctx, e, func(img *layerstore.Image) bool { return all || len(img.Names) == 0 }, flt)
	})
	var sum pruned
	for _, prune := range parts {
		p, err := prune()
		if err != nil {
			return err
		}
		sum.any, sum.bytes = sum.any || p.any, sum.bytes+p.bytes
	}
	return report(sum, nil)
}

// versionDoc is what version prints. There is no server: what asks for one gets the program that does its work.
type versionDoc struct {
	Client, Server versionPart
}

type versionPart struct {
	Version, GoVersion, GitCommit, Built, BuildTime, Os, Arch string
}

func (a *app) newVersionCommand() *cobra.Command {
	var text string
	c := &cobra.Command{
		Use: "version [flags]", Short: "Show the version", Example: lines("mica version", "mica version --format '{{.Client.Version}}'"), Args: cobra.NoArgs,
	}
	c.Flags().StringVarP(&text, "format", "f", "", "json, or a Go template")
	c.RunE = func(_ *cobra.Command, _ []string) error {
		v := version.Get()
		doc := versionPart{v.Version, v.Go, v.Commit, v.Built, v.Built, v.OS, v.Arch}
		if text == "json" {
			text = "{{json .}}"
		}
		if text != "" {
			return format.Execute(display(), text, versionDoc{doc, doc})
		}
		fmt.Fprintf(stdout, "mica:\n Version:    %s\n Go version: %s\n Git commit: %s\n Built:      %s\n OS/Arch:    %s/%s\n",
			v.Version, v.Go, v.Commit, v.Built, v.OS, v.Arch)
		return nil
	}
	return c
}

func (a *app) newInfoCommand() *cobra.Command {
	var text string
	c := &cobra.Command{
		Use: "info [flags]", Short: "Show what this machine offers and what the store holds",
		Example: lines("mica info", "mica info --format '{{.Root}}'"), Args: cobra.NoArgs,
	}
	c.Flags().StringVarP(&text, "format", "f", "", "json, or a Go template")
	c.RunE = func(_ *cobra.Command, _ []string) error {
		e, err := a.open()
		if err != nil {
			return err
		}
		info, broken := e.Info()
		if info == nil {
			return broken
		}
		info.Version, info.ServerVersion = version.Short(), version.Short()
		info.OSType, info.Architecture, info.NCPU = runtime.GOOS, runtime.GOARCH, runtime.NumCPU()
		switch text {
		case "":
			info.Print(stdout)
			return broken
		case "json":
			text = "{{json .}}"
		}
		return cmp.Or(format.Execute(display(), text, info), broken)
	}
	return c
}
