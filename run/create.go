package run

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"mica/internal/environ"
	"mica/internal/signame"
	"mica/layerstore"
	"mica/run/ports"
	"mica/run/record"
)

// CreateOptions say how a container differs from its image.
type CreateOptions struct {
	Image       string
	Command     []string // nil: the image's
	Name        string
	Entrypoint  *string  // nil: the image's; empty: none; a command, or a JSON list of words
	Env         []string // "KEY=value", or "KEY" to take the caller's
	Labels      map[string]string
	EnvHost     bool     // the caller's variables, below the image's
	UnsetEnv    []string // names of variables of the image to leave out
	WorkingDir  string
	User        string
	Hostname    string
	Domainname  string
	StopSignal  string
	StopTimeout *int
	Expose      []string                // "80/tcp"
	Healthcheck *layerstore.Healthcheck // nil: the image's; without a Test: what changes in the image's
	TTY         bool
	OpenStdin   bool
	KeepStdin   bool // the end of a client's input is not that of the container's
	PublishAll  bool // lead free ports of the host to all that are exposed
	Host        record.HostConfig

	// Step makes a container for one step of a build, with an empty tree if Image is empty. It goes with this process at the
	// latest.
	Step record.Step
	// Config takes the place of the image's configuration.
	Config *layerstore.ContainerConfig
}

// Created is a container just made, with its lock held.
type Created struct {
	*record.Container
	Lock   *record.Lock
	Lowers []string // the image's layers, topmost first
}

// Create makes a container. The caller starts it or releases its lock.
func (e *Engine) Create(ctx context.Context, opt CreateOptions) (*Created, error) {
	var img *layerstore.Image
	var lowers []string
	var err error
	if opt.Image != "" || opt.Step == "" {
		if img, lowers, err = e.base(ctx, opt.Image); err != nil {
			return nil, err
		}
	}
	cfg := &record.Config{
		Name: opt.Name, Created: time.Now().UTC(), Image: opt.Image,
		TTY: opt.TTY, OpenStdin: opt.OpenStdin, KeepStdin: opt.KeepStdin, Host: opt.Host,
	}
	switch {
	case img != nil:
		cfg.ImageID = img.ID
		cfg.Container = img.Config.Config
		if cfg.HostBase, err = overHost(img, opt.Labels); err != nil {
			return nil, err
		}
	case opt.Image == HostImage:
		cfg.Container, cfg.HostBase = hostImageConfig(), true
	}
	if opt.Config != nil {
		cfg.Container = *opt.Config
	}
	cfg.Step = opt.Step
	if err := merge(&cfg.Container, &opt); err != nil {
		return nil, err
	}
	if len(cfg.Args()) == 0 {
		cfg.Container.Cmd = defaultCommand(lowers)
	}
	if len(cfg.Args()) == 0 {
		return nil, fmt.Errorf("image %s names no command and has no shell: give a command after the image", opt.Image)
	}
	cfg.ID = record.NewID()
	switch {
	case slices.Contains(cfg.Host.Share, "uts"):
		if cfg.Container.Hostname, err = os.Hostname(); err != nil {
			return nil, err
		}
	case cfg.Container.Hostname == "":
		cfg.Container.Hostname = cfg.ID[:12]
	}
	if opt.PublishAll {
		if cfg.Host.Ports, err = ports.AddExposed(cfg.Host.Ports, cfg.Container.ExposedPorts); err != nil {
			return nil, err
		}
	}
	if err := resolveSources(cfg.Host.Mounts); err != nil {
		return nil, err
	}
	c, lock, err := e.enter(cfg)
	if err != nil {
		return nil, err
	}
	return &Created{Container: c, Lock: lock, Lowers: lowers}, nil
}

// overHost tells whether containers of an image lie over the root of the machine. That the image says so is not enough: one
// that comes from elsewhere would read with the rights of the user what it likes. labels are those that the user gives.
func overHost(img *layerstore.Image, labels map[string]string) (bool, error) {
	if img.Config.Config.Labels[baseLabel] != HostImage {
		return false, nil
	}
	if !img.OverHost && labels[baseLabel] != HostImage {
		return false, fmt.Errorf("the image comes from elsewhere and wants to lie over this machine's root, which it could then read: if you trust it, "+
			"say so with --label %s=%s", baseLabel, HostImage)
	}
	return true, nil
}

// base finds the image of a container and its layers on disk. The image
// "host" has neither.
func (e *Engine) base(ctx context.Context, ref string) (*layerstore.Image, []string, error) {
	s, err := e.Store()
	if err != nil || ref == HostImage {
		return nil, nil, err
	}
	img, err := e.Image(ref)
	if err != nil {
		return nil, nil, err
	}
	lowers, err := s.Layers(ctx, img)
	if err != nil {
		return nil, nil, fmt.Errorf("unpack image %s: %w", ref, err)
	}
	return img, lowers, nil
}

// layersOf gives the layers of the image of a container, none if it has none.
func (e *Engine) layersOf(ctx context.Context, c *record.Container) ([]string, error) {
	if c.Broken != nil || c.Config.ImageID == "" {
		return nil, c.Broken
	}
	_, lowers, err := e.base(ctx, c.Config.ImageID)
	return lowers, err
}

// merge changes an image's configuration as the options say.
func merge(c *layerstore.ContainerConfig, opt *CreateOptions) error {
	if opt.Entrypoint != nil {
		// Docker drops the image's command together with its entry point.
		c.Entrypoint, c.Cmd = nil, nil
		list := strings.HasPrefix(*opt.Entrypoint, "[") && json.Unmarshal([]byte(*opt.Entrypoint), &c.Entrypoint) == nil
		if *opt.Entrypoint != "" && !list {
			c.Entrypoint = []string{*opt.Entrypoint}
		}
	}
	if len(opt.Command) > 0 {
		c.Cmd = opt.Command
	}
	given, err := ResolveEnv(opt.Env)
	if err != nil {
		return err
	}
	image := slices.DeleteFunc(slices.Clone(c.Env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(opt.UnsetEnv, name)
	})
	c.Env = nil
	if opt.EnvHost {
		c.Env = os.Environ()
	}
	for _, kv := range image {
		c.Env = environ.Set(c.Env, kv)
	}
	for _, kv := range given {
		c.Env = environ.Set(c.Env, kv)
	}
	if opt.WorkingDir != "" {
		if !path.IsAbs(opt.WorkingDir) {
			return fmt.Errorf("working directory %q is not absolute: give a path that begins with /", opt.WorkingDir)
		}
		c.WorkingDir = path.Clean(opt.WorkingDir)
	}
	if len(opt.Labels) > 0 {
		labels := make(map[string]string, len(c.Labels)+len(opt.Labels))
		for k, v := range c.Labels {
			labels[k] = v
		}
		for k, v := range opt.Labels {
			labels[k] = v
		}
		c.Labels = labels
	}
	if len(opt.Expose) > 0 {
		ports := make(map[string]struct{}, len(c.ExposedPorts)+len(opt.Expose))
		for p := range c.ExposedPorts {
			ports[p] = struct{}{}
		}
		for _, p := range opt.Expose {
			ports[p] = struct{}{}
		}
		c.ExposedPorts = ports
	}
	if opt.Healthcheck != nil {
		c.Healthcheck = mergeHealth(c.Healthcheck, opt.Healthcheck)
	}
	set(&c.User, opt.User)
	set(&c.StopSignal, opt.StopSignal)
	if opt.StopTimeout != nil {
		c.StopTimeout = opt.StopTimeout
	}
	c.Hostname, c.Domainname = opt.Hostname, opt.Domainname
	if _, err := signame.Parse(c.StopSignal); c.StopSignal != "" && err != nil {
		return err
	}
	return nil
}

// mergeHealth changes an image's health check, which may be nil.
func mergeHealth(image, change *layerstore.Healthcheck) *layerstore.Healthcheck {
	if len(change.Test) > 0 || image == nil {
		return change
	}
	h := *image
	for _, f := range []struct{ to, from *time.Duration }{
		{&h.Interval, &change.Interval}, {&h.Timeout, &change.Timeout}, {&h.StartPeriod, &change.StartPeriod}, {&h.StartInterval, &change.StartInterval},
	} {
		if *f.from != 0 {
			*f.to = *f.from
		}
	}
	if change.Retries != 0 {
		h.Retries = change.Retries
	}
	return &h
}

// ResolveEnv gives variables that are named alone, or by a NAME* that they begin with, the caller's value; one that the
// caller has not is left out.
func ResolveEnv(list []string) ([]string, error) {
	var env []string
	for _, kv := range list {
		key, _, has := strings.Cut(kv, "=")
		if key == "" {
			return nil, fmt.Errorf("environment variable %q has no name: want NAME=VALUE or NAME", kv)
		}
		if prefix, all := strings.CutSuffix(key, "*"); all && !has {
			for _, own := range os.Environ() {
				if strings.HasPrefix(own, prefix) {
					env = append(env, own)
				}
			}
			continue
		}
		if !has {
			value, ok := os.LookupEnv(key)
			if !ok {
				continue
			}
			kv = key + "=" + value
		}
		env = append(env, kv)
	}
	return env, nil
}

func set(dst *string, value string) {
	if value != "" {
		*dst = value
	}
}
