package run

import (
	"mica/run/ports"
	"mica/run/record"
	"mica/run/volume"
)

// enter makes the record of a container. Nobody removes what it names before it is there.
func (e *Engine) enter(cfg *record.Config) (_ *record.Container, _ *record.Lock, err error) {
	var made []*volume.Volume
	defer func() {
		if err != nil {
			e.dropVolumes(made)
		}
	}()
	if cfg.ImageID != "" {
		s, err := e.Store()
		if err != nil {
			return nil, nil, err
		}
		release, err := s.Hold(cfg.ImageID)
		if err != nil {
			return nil, nil, err
		}
		defer release()
	}
	release, err := e.holdImages(cfg.Host.Mounts)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	release, err = e.Volumes().Use()
	if err != nil {
		return nil, nil, err
	}
	defer release()
	if err := e.takeMounts(&cfg.Host); err != nil {
		return nil, nil, err
	}
	if err := ports.Choose(cfg.Host.Ports); err != nil {
		return nil, nil, err
	}
	if made, err = e.prepareVolumes(cfg); err != nil {
		return nil, nil, err
	}
	return e.Containers.Create(cfg)
}
