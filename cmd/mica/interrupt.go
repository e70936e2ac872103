package main

import (
	"context"

	"github.com/spf13/cobra"

	"mica/internal/signals"
)

// untilInterrupted runs what is to give up, and to leave nothing behind, when the user interrupts it.
func untilInterrupted(ctx context.Context, do func(context.Context) error) error {
	ctx, caught := signals.Catch(ctx)
	defer caught.Release()
	err := do(ctx)
	if code, ended := caught.Ended(); ended && err != nil {
		return exitCode(code)
	}
	return err
}

// tidily makes a command of what would leave something behind if a signal ended it.
func tidily(do func(c *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		return untilInterrupted(c.Context(), func(ctx context.Context) error {
			c.SetContext(ctx)
			return do(c, args)
		})
	}
}
