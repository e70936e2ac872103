package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"mica/internal/format"
	"mica/run"
	"mica/run/volume"
)

// volumeRow is one line of volume ls.
type volumeRow struct {
	Availability, Driver, Group, Labels, Links, Mountpoint, Name, Scope, Size, Status string

	labels map[string]string
}

// Label is the value of one label.
func (r volumeRow) Label(key string) string { return r.labels[key] }

var volumeTable = format.Table{
	Header: format.Header{
		"Driver": "DRIVER", "Labels": "LABELS", "Links": "LINKS", "Mountpoint": "MOUNTPOINT", "Name": "VOLUME NAME", "Scope": "SCOPE", "Size": "SIZE",
		"Availability": "AVAILABILITY", "Group": "GROUP", "Status": "STATUS",
	},
	Default: "{{.Driver}}\t{{.Name}}",
	Quiet:   "{{.Name}}",
}

func (a *app) volumeGroup() *cobra.Command {
	return group("volume", "Manage volumes", a.newVolumeCreateCommand(), a.newVolumeListCommand(), a.newVolumeRemoveCommand(),
		a.newInspectCommand(inspectVolumes), a.newVolumePruneCommand(), a.newExistsCommand(inspectVolumes))
}

func (a *app) newVolumeCreateCommand() *cobra.Command {
	var labels []string
	var driver string
	c := &cobra.Command{
		Use: "create [flags] [NAME]", Short: "Make a volume", Example: lines("mica volume create data"), Args: cobra.MaximumNArgs(1),
	}
	c.Flags().StringArrayVar(&labels, "label", nil, "set a label KEY=VALUE")
	c.Flags().StringVarP(&driver, "driver", "d", "local", "local is the one there is")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if driver != "local" {
			return fmt.Errorf("volume driver %q: want local", driver)
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		m, err := readLabels(nil, labels)
		if err != nil {
			return err
		}
		var v *volume.Volume
		if len(args) == 1 {
			if v, err = e.Volumes().Get(args[0]); err == nil {
				fmt.Fprintln(stdout, v.Name)
				return nil
			}
			v, err = e.Volumes().Create(args[0], m)
		} else {
			v, err = e.Volumes().Create("", m)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(stdout, v.Name)
		return nil
	}
	return c
}

func (a *app) newVolumeListCommand() *cobra.Command {
	var opt format.Options
	var list []string
	c := &cobra.Command{
		Use: "ls [flags]", Aliases: []string{"list"}, Short: "List volumes", Example: lines("mica volume ls -q"), Args: cobra.NoArgs,
	}
	c.Flags().BoolVarP(&opt.Quiet, "quiet", "q", false, "print names only")
	c.Flags().StringVar(&opt.Format, "format", "", "table, json, or a Go template")
	c.Flags().StringArrayVarP(&list, "filter", "f", nil, "dangling, label, name")
	c.RunE = func(_ *cobra.Command, _ []string) error {
		flt, err := parseFilters(list, "dangling", "label", "label!", "name", "driver")
		if err != nil {
			return err
		}
		named, err := flt.names()
		if err != nil {
			return err
		}
		dangling, hasDangling, err := flt.flag("dangling")
		if err != nil {
			return err
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		rows, err := volumeRows(e, func(v *volume.Volume, used bool) bool {
			return (!hasDangling || !used == dangling) && flt.labels(v.Labels) && named(v.Name) &&
				flt.any("driver", func(s string) bool { return s == "local" })
		})
		if err != nil {
			return err
		}
		return format.Write(display(), volumeTable, opt, rows)
	}
	return c
}

// volumeRows are the lines of the volumes for which keep holds; it is told whether containers use them.
func volumeRows(e *run.Engine, keep func(v *volume.Volume, used bool) bool) ([]volumeRow, error) {
	volumes, err := e.Volumes().List()
	if err != nil {
		return nil, err
	}
	users, err := e.VolumeUsers()
	if err != nil {
		return nil, err
	}
	var rows []volumeRow
	for _, v := range volumes {
		if n := len(users[v.Name]); keep(v, n > 0) {
			rows = append(rows, volumeRow{
				Availability: "N/A", Driver: "local", Group: "N/A", Labels: joinLabels(v.Labels), Links: fmt.Sprint(n),
				Mountpoint: v.Data, Name: v.Name, Scope: "local", Size: "N/A", Status: "N/A", labels: v.Labels,
			})
		}
	}
	return rows, nil
}

func (a *app) newVolumeRemoveCommand() *cobra.Command {
	var all, force bool
	c := &cobra.Command{
		Use: "rm [flags] VOLUME...", Aliases: []string{"remove"}, Short: "Remove volumes", Example: lines("mica volume rm data", "mica volume rm --all"),
		Args: unlessAll(&all), ValidArgsFunction: a.completeVolumes,
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "all volumes; it is an error if containers use some")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not mind missing ones")
	c.RunE = func(_ *cobra.Command, args []string) error {
		e, err := a.open()
		if err != nil {
			return err
		}
		if all {
			volumes, err := e.Volumes().List()
			if err != nil {
				return err
			}
			for _, v := range volumes {
				args = append(args, v.Name)
			}
		}
		var failed []error
		for _, name := range args {
			if _, err := e.Volumes().Get(name); err != nil && force {
				continue
			}
			if err := e.RemoveVolume(name); err != nil {
				failed = append(failed, err)
				continue
			}
			fmt.Fprintln(stdout, name)
		}
		return allOf(failed)
	}
	return c
}

func (a *app) newVolumePruneCommand() *cobra.Command {
	var all, force bool
	var list []string
	c := &cobra.Command{
		Use: "prune [flags]", Short: "Remove volumes that no container uses", Example: lines("mica volume prune -f", "mica volume prune -af"), Args: cobra.NoArgs,
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "remove named volumes too, not only anonymous ones")
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().StringArrayVar(&list, "filter", nil, "label=KEY[=VALUE]")
	c.RunE = func(_ *cobra.Command, _ []string) error {
		flt, err := parseFilters(list, "label", "label!")
		if err != nil {
			return err
		}
		what := "This removes all anonymous volumes that no container uses."
		if all {
			what = "This removes all volumes that no container uses."
		}
		if err := confirm(force, what); err != nil {
			return err
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		return report(pruneVolumes(e, func(v *volume.Volume) bool { return (all || v.Anonymous) && flt.labels(v.Labels) }))
	}
	return c
}

// pruneVolumes removes the volumes that no container uses, of those that which names.
func pruneVolumes(e *run.Engine, which func(*volume.Volume) bool) (p pruned, err error) {
	volumes, err := e.Volumes().List()
	if err != nil {
		return p, err
	}
	users, err := e.VolumeUsers()
	if err != nil {
		return p, err
	}
	for _, v := range volumes {
		if len(users[v.Name]) > 0 || !which(v) {
			continue
		}
		size := run.DiskUsage(v.Data)
		err := e.RemoveVolume(v.Name)
		if errors.Is(err, volume.ErrInUse) || errors.Is(err, volume.ErrNotFound) {
			continue // since just now
		}
		if err != nil {
			return p, err
		}
		if !p.any {
			fmt.Fprintln(stdout, "Deleted Volumes:")
			p.any = true
		}
		fmt.Fprintln(stdout, v.Name)
		p.bytes += size
	}
	return p, nil
}
