package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"mica/internal/imageref"
	"mica/layerstore"
)

// transfer is what the two directions between the store and a registry have in common.
type transfer struct {
	store *layerstore.Store
	flags registryFlags
	quiet bool
}

// register registers flags; trust says what becomes of signatures.
func (t *transfer) register(c *cobra.Command, trust string) {
	fl := c.Flags()
	fl.BoolVarP(&t.quiet, "quiet", "q", false, "print the name only")
	fl.Bool("disable-content-trust", true, trust)
	_ = fl.MarkHidden("disable-content-trust")
	t.flags.register(fl)
}

// of makes a command of what is done with the image that its argument names.
func (t *transfer) of(a *app, do func(context.Context, imageref.Ref) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		return interruptible(c.Context(), func(ctx context.Context) (err error) {
			if t.store, err = a.store(); err != nil {
				return err
			}
			named, err := imageref.Parse(args[0])
			if err != nil {
				return fmt.Errorf("name %q: %w", args[0], err)
			}
			return do(ctx, named)
		})
	}
}
