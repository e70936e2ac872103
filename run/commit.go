package run

import (
	"context"
	"fmt"
	"strings"

	"mica/layerstore"
	"mica/run/control"
	"mica/run/record"
	"mica/run/tree"
)

// CommitTree makes an image of the changes in the tree of a container, over its image, and gives its ID.
func (e *Engine) CommitTree(ctx context.Context, t *tree.Tree, cfg *record.Config, opt layerstore.CommitOptions) (string, error) {
	s, err := e.Store()
	if err != nil {
		return "", err
	}
	var parent *layerstore.Image
	if cfg.ImageID != "" {
		if parent, err = s.Resolve(cfg.ImageID); err != nil {
			return "", fmt.Errorf("find the container's image %s: %w", cfg.Image, err)
		}
	}
	base := cfg.Container
	base.Hostname, base.Domainname = "", ""
	if cfg.HostBase && base.Labels[baseLabel] == "" {
		labels := map[string]string{baseLabel: HostImage}
		for k, v := range base.Labels {
			labels[k] = v
		}
		base.Labels = labels
	}
	if opt.Config == nil {
		opt.Config = &base
	}
	opt.OverHost = cfg.HostBase
	if opt.CreatedBy == "" {
		opt.CreatedBy = strings.Join(cfg.Container.Cmd, " ")
	}
	img, err := s.Commit(ctx, parent, t.Union.Changes, opt)
	if err != nil {
		return "", err
	}
	return img.ID, nil
}

// Commit makes an image of a container and gives its ID.
func (e *Engine) Commit(ctx context.Context, c *record.Container, req control.Commit) (id string, err error) {
	err = e.withTree(ctx, c, true, func(conn *control.Conn) error {
		var res control.CommitResult
		if err := conn.Ask(control.Request{Op: control.OpCommit, Commit: &req}, &res); err != nil {
			return err
		}
		id = res.ID
		return nil
	}, func(t *tree.Tree) error {
		id, err = e.CommitTree(ctx, t, c.Config, req.Options)
		return err
	})
	return id, err
}
