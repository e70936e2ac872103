package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"mica/internal/format"
	"mica/internal/imageref"
	"mica/internal/registry"
	"mica/layerstore"
)

func (a *app) newPullCommand() *cobra.Command {
	var p puller
	var all bool
	c := &cobra.Command{
		Use:   "pull [flags] NAME[:TAG|@DIGEST]",
		Short: "Bring an image from a registry",
		Long: `Bring an image from a registry. A name without a host is one of Docker's hub, a name without a tag has the tag "latest".
What Podman and Docker know of registries is heeded: registries.conf, certs.d, and the credentials of "mica login", "podman login" and
"docker login". Of an image for several platforms the one for this machine is taken.`,
		Example: lines("mica pull debian", "mica pull --platform linux/arm64 debian:bookworm", "mica pull --tls-verify=false host.example:5000/app",
			"mica pull -q debian@sha256:DIGEST"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeImages(1),
	}
	fl := c.Flags()
	fl.BoolVarP(&all, "all-tags", "a", false, "bring the images of all tags")
	fl.StringVar(&p.platform, "platform", "", "operating system and architecture, such as linux/arm64 (default this machine's)")
	p.register(c, "accepted; digests are always verified, signatures never")
	c.RunE = p.of(a, func(ctx context.Context, named imageref.Ref) error {
		p.out = stdout
		if all {
			return p.all(ctx, named)
		}
		if named.Tag == "" && named.Digest == "" {
			p.say("Using default tag: latest")
		}
		if err := p.one(ctx, named); err != nil {
			return err
		}
		fmt.Fprintln(p.out, named.FullString())
		return nil
	})
	return c
}

// puller brings images into a store and says so, in Docker's words.
type puller struct {
	transfer
	out      io.Writer
	platform string
}

func (p *puller) say(text string, args ...any) {
	if !p.quiet {
		fmt.Fprintf(p.out, text+"\n", args...)
	}
}

// one brings the image of one name.
func (p *puller) one(ctx context.Context, named imageref.Ref) error {
	repo, err := p.flags.open(named)
	if err != nil {
		return err
	}
	isNew, err := p.from(ctx, repo, named)
	if err != nil {
		return err
	}
	p.status(isNew, named.String())
	return nil
}

func (p *puller) status(isNew bool, name string) {
	if isNew {
		p.say("Status: Downloaded newer image for %s", name)
	} else {
		p.say("Status: Image is up to date for %s", name)
	}
}

// from brings an image and tells whether it was not here before.
func (p *puller) from(ctx context.Context, repo *registry.Repository, named imageref.Ref) (isNew bool, err error) {
	what := named.Reference()
	if named.Digest != "" {
		what = named.FullString()
	}
	b := newBars(!p.quiet)
	pulled, err := p.store.Pull(ctx, repo, named.String(), layerstore.PullOptions{Platform: p.platform, Track: b.track, Found: func() {
		p.say("%s: Pulling from %s", what, named.Path())
	}})
	b.stop()
	if err != nil {
		return false, err
	}
	p.say("Digest: %s", pulled.Digest)
	if have := pulled.Config.OS + "/" + pulled.Config.Architecture; p.platform == "" && have != ownPlatform && have != "/" {
		fmt.Fprintf(os.Stderr, "WARNING: the image is for %s, not for this machine, which is %s\n", format.Printable(have), ownPlatform)
	}
	return pulled.New, nil
}

// all brings the images of all tags of a repository.
func (p *puller) all(ctx context.Context, named imageref.Ref) error {
	if named.Tag != "" || named.Digest != "" {
		return errors.New("--all-tags takes a name without a tag or digest")
	}
	repo, err := p.flags.open(named)
	if err != nil {
		return err
	}
	tags, err := repo.Tags(ctx)
	if err != nil {
		return fmt.Errorf("list the tags of %s: %w", named.Name, err)
	}
	any := false
	for _, tag := range tags {
		if named, err = imageref.Parse(named.Full + ":" + tag); err != nil {
			return fmt.Errorf("tag %q: %w", tag, err)
		}
		isNew, err := p.from(ctx, repo, named)
		if errors.Is(err, layerstore.ErrNoImage) { // there may be signatures beside the images
			fmt.Fprintln(os.Stderr, "Skipped:", format.Printable(err.Error()))
			continue
		}
		if err != nil {
			return err
		}
		any = any || isNew
	}
	p.status(any, named.Name)
	fmt.Fprintln(p.out, named.Full)
	return nil
}
