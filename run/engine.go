package run

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"mica/layerstore"
	"mica/run/record"
	"mica/run/supervise"
	"mica/run/userns"
)

// HostImage is the name of the built-in image: the machine's own root.
const HostImage = "host"

// baseLabel on an image names what lies below its layers: the value "host" is
// the machine's own root. A commit of a container of "host" sets it.
const baseLabel = "mica.base"

// Engine runs containers of one store.
type Engine struct {
	root       string
	store      *layerstore.Store // opened when first needed
	Containers *record.Dir
	waiting    *supervise.Waiting // see Use
}

// Open opens the containers of the store at root, and clears away what crashes have left.
func Open(root string) (*Engine, error) {
	e, err := openEngine(root)
	if err != nil {
		return nil, err
	}
	err = e.Containers.Tidy(func(cfg *record.Config) {
		_ = e.RemoveAnonymous(cfg)
		_ = e.settleVolumes(cfg)
	})
	if err != nil {
		return nil, err
	}
	if err := e.Volumes().Tidy(userns.RemoveAll); err != nil {
		return nil, err
	}
	layerstore.Tidy(root)
	return e, nil
}

// openEngine is Open for a process that has no time to clear anything away.
func openEngine(root string) (*Engine, error) {
	d, err := record.Open(root + "/containers")
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.EROFS) {
		err = fmt.Errorf("%w; choose another place for the store with --root, or with $MICA_ROOT", err)
	}
	if err != nil {
		return nil, err
	}
	return &Engine{root: root, Containers: d}, nil
}

// Root is the directory of the store.
func (e *Engine) Root() string { return e.root }

// Store opens the image store on first use.
func (e *Engine) Store() (*layerstore.Store, error) {
	if e.store == nil {
		s, err := layerstore.Open(e.root)
		if err != nil {
			return nil, err
		}
		e.store = s
	}
	return e.store, nil
}

// Image looks an image up. That it is missing is an error that says what to do.
func (e *Engine) Image(ref string) (*layerstore.Image, error) {
	s, err := e.Store()
	if err != nil {
		return nil, err
	}
	img, err := s.Resolve(ref)
	if errors.Is(err, layerstore.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s; bring it with \"mica pull\", \"mica load -i ARCHIVE\" or \"mica import FILE.tar NAME\", or see \"mica images\"",
			layerstore.ErrNotFound, ref)
	}
	return img, err
}

// errDamagedContainer says that it is not known what some container uses.
var errDamagedContainer = errors.New("what it uses is not known")

// readable lists all containers; a damaged one is an error, for those who want to remove what no container uses.
func (e *Engine) readable() ([]*record.Container, error) {
	list, err := e.Containers.List()
	if err != nil {
		return nil, err
	}
	for _, c := range list {
		if c.Broken != nil {
			return nil, fmt.Errorf("container %s is damaged, and %w: %w", c.Config.Name, errDamagedContainer, c.Broken)
		}
	}
	return list, nil
}

// InUse lists the containers of an image; for [layerstore.RemoveOptions]. It is an error if that is not known of some.
func (e *Engine) InUse(imageID string) ([]string, error) {
	list, err := e.readable()
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, c := range list {
		if c.Config.Needs(imageID) {
			ids = append(ids, c.ID())
		}
	}
	return ids, nil
}
