package build

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"mica/layerstore"
	"mica/run"
)

// isOurs tells whether a platform is this machine's.
func isOurs(platform string) bool {
	p, err := layerstore.ParsePlatform(platform)
	return err == nil && p.OS == runtime.GOOS && p.Architecture == runtime.GOARCH
}

// image finds what FROM and --from name: a named context, one of the first n stages, or an image. Arguments are those of the
// stage, if it is one.
func (b *builder) image(ctx context.Context, name string, n int) (img *layerstore.Image, args scope, err error) {
	if c, ok := b.context(name); ok {
		if c.Dir != nil {
			return nil, nil, fmt.Errorf("the context %s is a directory, no image", name)
		}
		img, err = b.stored(ctx, c.Image)
		return img, nil, err
	}
	if i, ok := b.stageNamed(name, n); ok {
		st, err := b.stage(ctx, i)
		if err != nil {
			return nil, nil, err
		}
		return st.img, st.args, nil
	}
	if _, later := b.stageNamed(name, len(b.parsed)); later {
		return nil, nil, fmt.Errorf("the stage %s is not there yet: only those before this one can be named", name)
	}
	if _, err := strconv.Atoi(name); err == nil {
		return nil, nil, fmt.Errorf("there is no stage %s", name)
	}
	img, err = b.stored(ctx, name)
	return img, nil, err
}

// context finds a named context, whatever the case of its name.
func (b *builder) context(name string) (Context, bool) {
	for have, c := range b.opt.Contexts {
		if strings.EqualFold(have, name) {
			return c, true
		}
	}
	return Context{}, false
}

// stored finds an image of the store, or has it brought there.
func (b *builder) stored(ctx context.Context, name string) (*layerstore.Image, error) {
	if name == run.HostImage {
		return nil, fmt.Errorf("the image %q is this machine's own root, which no image can be built on: commit a container of it instead", name)
	}
	img, err := b.store.Resolve(name)
	missing := errors.Is(err, layerstore.ErrNotFound) || errors.Is(err, layerstore.ErrAmbiguous) || err == nil && !isCalled(img, name)
	if !b.pulled[name] && b.opt.Pull != nil && (err == nil || missing) {
		if err := b.opt.Pull(ctx, name, missing); err != nil {
			return nil, err
		}
		b.pulled[name] = true
		img, err = b.store.Resolve(name)
		missing = err == nil && !isCalled(img, name)
	}
	if missing {
		return nil, fmt.Errorf("%w: %s", layerstore.ErrNotFound, name)
	}
	return b.e.Image(name)
}

// isCalled tells whether what a name led to was meant: short names are no beginnings of IDs here.
func isCalled(img *layerstore.Image, name string) bool {
	const certain = 12
	full, err := layerstore.NormalizeName(name)
	return err != nil || slices.Contains(img.Names, full) || len(strings.TrimPrefix(name, "sha256:")) >= certain
}
