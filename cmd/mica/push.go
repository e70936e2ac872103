package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"mica/internal/format"
	"mica/internal/imageref"
	"mica/internal/registry"
	"mica/layerstore"
)

func (a *app) newPushCommand() *cobra.Command {
	var p pusher
	var all bool
	c := &cobra.Command{
		Use:   "push [flags] NAME[:TAG]",
		Short: "Give an image to a registry",
		Long: `Give an image to the registry that its name says, as it is stored: its digest stays what it is here. Layers that the
registry has are not sent. "mica tag" gives an image a further name.`,
		Example:           lines("mica tag app host.example/team/app:1", "mica push host.example/team/app:1", "mica push --all-tags host.example/team/app"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeImages(1),
	}
	c.Flags().BoolVarP(&all, "all-tags", "a", false, "give all images of that name")
	p.register(c, "accepted; nothing is signed")
	c.RunE = p.of(a, func(ctx context.Context, named imageref.Ref) error {
		if named.Digest != "" {
			return fmt.Errorf("name %q: an image is pushed by its tag, not by its digest", c.Flags().Arg(0))
		}
		return p.push(ctx, named, all)
	})
	return c
}

// pusher gives images of a store to a registry and says so, in Docker's words.
type pusher struct{ transfer }

func (p *pusher) push(ctx context.Context, named imageref.Ref, all bool) error {
	list := []imageref.Ref{named}
	if all {
		var err error
		if list, err = p.allTags(named); err != nil {
			return err
		}
	}
	repo, err := p.flags.open(named)
	if err != nil {
		return err
	}
	out := io.Writer(stdout)
	if p.quiet {
		out = io.Discard
	}
	if named.Tag == "" && !all {
		fmt.Fprintln(out, "Using default tag: latest")
	}
	fmt.Fprintf(out, "The push refers to repository [%s]\n", named.Full)
	for _, one := range list {
		if err := p.one(ctx, out, repo, one); err != nil {
			return err
		}
	}
	switch {
	case p.quiet && all:
		fmt.Fprintln(stdout, named.Full)
	case p.quiet:
		fmt.Fprintln(stdout, named.FullTagged())
	}
	return nil
}

func (p *pusher) one(ctx context.Context, out io.Writer, repo *registry.Repository, named imageref.Ref) error {
	b := newBars(!p.quiet)
	var done []string // told when the bars are off the screen
	opt := layerstore.PushOptions{Track: b.track, Blob: func(l layerstore.Layer, what string) {
		done = append(done, fmt.Sprintf("%s: %s", format.ShortID(l.DiffID.String()), what))
	}}
	desc, err := p.store.Push(ctx, repo, named.Tagged(), opt)
	b.stop()
	for _, line := range done {
		fmt.Fprintln(out, line)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: digest: %s size: %d\n", named.Reference(), desc.Digest, desc.Size)
	return nil
}

// allTags lists the names that images here have in a repository.
func (p *pusher) allTags(named imageref.Ref) ([]imageref.Ref, error) {
	if named.Tag != "" {
		return nil, errors.New("--all-tags takes a name without a tag")
	}
	images, err := p.store.Images()
	if err != nil {
		return nil, err
	}
	var list []imageref.Ref
	for _, img := range images {
		for _, name := range img.Names {
			if other, err := imageref.Parse(name); err == nil && other.Full == named.Full {
				list = append(list, other)
			}
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%w: none has the name %s", layerstore.ErrNotFound, named.Name)
	}
	return list, nil
}
