package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mica/run"
	"mica/run/record"
)

func (a *app) newRmCommand() *cobra.Command {
	var force, volumes bool
	var timeout float64
	var sel selection
	c := &cobra.Command{
		Use:               "rm [flags] CONTAINER...",
		Aliases:           []string{"remove"},
		Short:             "Remove containers",
		Example:           lines("mica rm web", "mica rm -f --all", "mica rm --filter status=exited"),
		ValidArgsFunction: a.completeContainers(anyState, 0),
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "kill running containers first, and do not mind missing ones")
	c.Flags().BoolVarP(&volumes, "volumes", "v", false, "remove the container's anonymous volumes too")
	c.Flags().Float64VarP(&timeout, "time", "t", 0, "seconds that a running container has to end before it is killed, -1 for ever; implies --force")
	sel.register(c, "a", "of them")
	sel.registerIgnore(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		stop := c.Flags().Changed("time")
		force = force || stop
		e, err := a.open()
		if err != nil {
			return err
		}
		if args, err = sel.names(a, args, anyState); err != nil {
			return err
		}
		var failed []error
		for _, ref := range args {
			ct, err := e.Containers.Find(ref)
			if force && errors.Is(err, record.ErrNotFound) {
				continue
			}
			if err == nil && stop {
				err = e.Stop(c.Context(), ct, run.StopOptions{Timeout: &timeout})
			}
			if err == nil {
				err = e.Remove(c.Context(), ct, run.RemoveOptions{Force: force, Volumes: volumes})
			}
			if err != nil {
				failed = append(failed, err)
				continue
			}
			fmt.Fprintln(stdout, ref)
		}
		return allOf(failed)
	}
	return c
}

func (a *app) newContainerPruneCommand() *cobra.Command {
	var force bool
	var filters []string
	c := &cobra.Command{
		Use:     "prune [flags]",
		Short:   "Remove all containers that are not running",
		Example: lines("mica container prune -f", "mica container prune -f --filter until=24h"),
		Args:    cobra.NoArgs,
	}
	c.Flags().BoolVarP(&force, "force", "f", false, "do not ask")
	c.Flags().StringArrayVar(&filters, "filter", nil, "until=DURATION, label=KEY[=VALUE]")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := confirm(force, "This removes all stopped containers."); err != nil {
			return err
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		flt, err := parseFilters(filters, "until", "label", "label!")
		if err != nil {
			return err
		}
		return report(pruneContainers(c.Context(), e, flt))
	}
	return c
}

func pruneContainers(ctx context.Context, e *run.Engine, flt filters) (p pruned, err error) {
	list, err := e.Containers.List()
	if err != nil {
		return p, err
	}
	for _, ct := range list {
		if ct.State.Alive() || ct.Broken != nil || ct.Config.Step != "" || !flt.labels(ct.Config.Container.Labels) || !flt.before(ct.Config.Created, time.Now()) {
			continue
		}
		size, _ := e.Size(ctx, ct)
		err := e.Remove(ctx, ct, run.RemoveOptions{})
		if errors.Is(err, record.ErrNotFound) {
			continue // since just now
		}
		if err != nil {
			return p, err
		}
		if !p.any {
			fmt.Fprintln(stdout, "Deleted Containers:")
			p.any = true
		}
		fmt.Fprintln(stdout, ct.ID())
		p.bytes += size
	}
	return p, nil
}
