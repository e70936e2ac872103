package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"mica/run/record"
)

func (a *app) newWaitCommand() *cobra.Command {
	var condition string
	c := &cobra.Command{
		Use:               "wait [flags] CONTAINER...",
		Short:             "Wait until containers end and print their exit codes",
		Example:           lines("mica wait job", "mica wait --condition running job"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeContainers(anyState, 0),
	}
	c.Flags().StringVar(&condition, "condition", "stopped", "wait until they are stopped, exited, running, paused or created, and print -1 for what has not ended")
	c.RunE = func(c *cobra.Command, args []string) error {
		want := record.Status(condition)
		ends := condition == "stopped" || want == record.Exited
		if !ends && want != record.Running && want != record.Paused && want != record.Created {
			return fmt.Errorf("--condition %q: want stopped, exited, running, paused or created", condition)
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		var failed []error
		for _, ref := range args {
			ct, err := e.Containers.Find(ref)
			code := -1
			switch {
			case err != nil:
			case ends:
				code, err = e.Wait(c.Context(), ct)
			default:
				err = awaitStatus(c.Context(), ct, want)
			}
			if err != nil {
				failed = append(failed, err)
				continue
			}
			fmt.Fprintln(stdout, code)
		}
		return allOf(failed)
	}
	return c
}

// awaitStatus looks at a container until it is at some stage of its life.
func awaitStatus(ctx context.Context, c *record.Container, want record.Status) error {
	for c.State.Status != want {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
		if err := c.Refresh(); err != nil {
			return err
		}
	}
	return nil
}
