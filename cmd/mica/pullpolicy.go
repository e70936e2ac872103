package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"mica/internal/imageref"
	"mica/layerstore"
	"mica/run"
)

// When run and create ask a registry for an image.
const (
	pullMissing = "missing"
	pullAlways  = "always"
	pullNever   = "never"
	pullNewer   = "newer"
)

// checkPull refuses policies that Docker and Podman do not know.
func checkPull(policy string) error {
	if slices.Contains([]string{pullAlways, pullMissing, pullNever, pullNewer}, policy) {
		return nil
	}
	return fmt.Errorf("--pull %q: want always, missing, never or newer", policy)
}

// createPulled makes a container, and brings its image before if --pull says so.
func (a *app) createPulled(ctx context.Context, e *run.Engine, f *containerFlags, opt run.CreateOptions) (*run.Created, error) {
	if f.pull == pullAlways || f.pull == pullNewer {
		if err := a.refresh(ctx, f, opt.Image); err != nil {
			return nil, err
		}
	}
	created, err := e.Create(ctx, opt)
	if f.pull != pullMissing || !errors.Is(err, layerstore.ErrNotFound) || isID(opt.Image) {
		return created, err
	}
	if err := a.fetch(ctx, f, opt.Image, true); err != nil {
		return nil, err
	}
	return e.Create(ctx, opt)
}

// refresh brings what a registry has under the name of an image now. An ID says which image it is.
func (a *app) refresh(ctx context.Context, f *containerFlags, ref string) error {
	if ref == run.HostImage || isID(ref) {
		return nil
	}
	s, err := a.store()
	if err != nil {
		return err
	}
	_, err = s.Resolve(ref)
	here := err == nil
	err = a.fetch(ctx, f, ref, !here)
	if here && f.pull == pullNewer && ctx.Err() == nil {
		return nil
	}
	return err
}

// fetch brings the image of a container.
func (a *app) fetch(ctx context.Context, f *containerFlags, ref string, missing bool) error {
	named, err := imageref.Parse(ref)
	if err != nil {
		return fmt.Errorf("name %q: %w", ref, err)
	}
	s, err := a.store()
	if err != nil {
		return err
	}
	if missing && !f.quiet {
		fmt.Fprintf(os.Stderr, "Unable to find image '%s' locally\n", named.String())
	}
	p := puller{transfer: transfer{store: s, flags: f.registry, quiet: f.quiet}, out: os.Stderr}
	if f.platform != "" {
		p.platform = ownPlatform // no other is accepted
	}
	if err := p.one(ctx, named); err != nil {
		return printableError{fmt.Errorf("%w; \"mica load\" and \"mica import\" bring images without a registry", err)}
	}
	return nil
}

// shortID is how many digits of an ID lists show.
const shortID = 12

// isID tells whether a reference is an ID, or the beginning of one as it is shown: no registry is asked for it. Fewer digits, such as
// "ada" or "cafe", are the name of an image unless the store has one whose ID begins so.
func isID(ref string) bool {
	hex, whole := strings.CutPrefix(ref, "sha256:")
	return (whole || len(hex) >= shortID) && strings.Trim(hex, "0123456789abcdef") == ""
}
