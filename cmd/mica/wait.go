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

func (a *app) newWaitCommand() *cobra.Command {
	var condition string
	c := &cobra.Command{
		Use:               "wait [flags] CONTAINER...",
		Short:             "Wait until containers end and print their exit codes",
		Example:           lines("mica wait job", "mica wait --condition running job"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeContainers(anyState, 0),
	}
	c.Flags().StringVar(&condition, "condition", "stopped", "wait until they are stopped (also: not-running, exited), removed, running, paused or created, or for the next-exit; -1 is printed for what has not ended")
	c.RunE = func(c *cobra.Command, args []string) error {
		want := record.Status(condition)
		ends := condition == "stopped" || condition == "not-running" || want == record.Exited
		if !ends && condition != "next-exit" && condition != "removed" && want != record.Running && want != record.Paused && want != record.Created {
			return fmt.Errorf("--condition %q: want stopped, next-exit, removed, running, paused or created", condition)
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
			case condition == "next-exit":
				code, err = awaitNextExit(c.Context(), e, ct)
			case condition == "removed":
				code, err = awaitRemoval(c.Context(), e, ct)
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
	return look(ctx, func() (bool, error) {
		err := c.Refresh()
		return c.State.Status == want, err
	})
}

// awaitNextExit waits until a container has ended once more than now.
func awaitNextExit(ctx context.Context, e *run.Engine, c *record.Container) (int, error) {
	last := c.State.FinishedAt
	err := look(ctx, func() (bool, error) {
		err := c.Refresh()
		return c.State.Alive() || !c.State.FinishedAt.Equal(last), err
	})
	if err != nil || !c.State.Alive() {
		return c.State.ExitCode, err
	}
	return e.Wait(ctx, c)
}

// awaitRemoval waits until there is no such container, and gives the exit code of its last run.
func awaitRemoval(ctx context.Context, e *run.Engine, c *record.Container) (code int, err error) {
	err = look(ctx, func() (bool, error) {
		err := c.Refresh()
		switch {
		case err != nil:
		case c.State.Alive():
			code, err = e.Wait(ctx, c)
		default:
			code = c.State.ExitCode
		}
		return false, err
	})
	if errors.Is(err, record.ErrNotFound) {
		err = nil
	}
	return code, err
}

// look asks again and again until the answer is yes.
func look(ctx context.Context, done func() (bool, error)) error {
	for {
		if yes, err := done(); yes || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
