package run

import (
	"context"
	"fmt"

	"mica/run/record"
)

// ImageLayers gives the layers of an image, topmost first.
func (e *Engine) ImageLayers(ctx context.Context, imageID string) ([]string, error) {
	_, lowers, err := e.base(ctx, imageID)
	return lowers, err
}

// holdImages finds the images that mounts show, and keeps them from being removed until release is called.
func (e *Engine) holdImages(mounts []record.Mount) (release func(), err error) {
	var held []func()
	drop := func() {
		for _, r := range held {
			r()
		}
	}
	for i := range mounts {
		m := &mounts[i]
		if m.Type != record.MountImage {
			continue
		}
		r, err := e.holdImage(m)
		if err != nil {
			drop()
			return nil, fmt.Errorf("mount at %s: %v", m.Target, err) // not wrapped: it is not the container's own image that is missing
		}
		held = append(held, r)
	}
	return drop, nil
}

// holdImage is holdImages for one mount.
func (e *Engine) holdImage(m *record.Mount) (release func(), err error) {
	img, err := e.Image(m.Image)
	if err != nil {
		return nil, err
	}
	m.Image = img.ID
	return e.store.Hold(img.ID)
}
