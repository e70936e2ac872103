package layerstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Tag gives the image src the further name dst.
func (s *Store) Tag(src, dst string) error {
	name, err := NormalizeName(dst)
	if err != nil {
		return fmt.Errorf("tag: %w", err)
	}
	t, err := s.begin("tag")
	if err != nil {
		return fmt.Errorf("tag: %w", err)
	}
	defer t.end()
	err = t.publish(func(ix *index) error {
		img, err := s.resolve(ix, src)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(ix.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == img.Manifest })
		ix.add(ix.Manifests[i], name)
		return nil
	})
	if err != nil {
		return fmt.Errorf("tag: %w", err)
	}
	return nil
}

// Untag takes names of the image ref away, all of them if none is given. The image stays.
func (s *Store) Untag(ref string, names []string) error {
	t, err := s.begin("untag")
	if err != nil {
		return fmt.Errorf("untag: %w", err)
	}
	defer t.end()
	err = t.publish(func(ix *index) error {
		img, err := s.resolve(ix, ref)
		if err != nil {
			return err
		}
		if len(names) == 0 {
			names = img.Names
		}
		for _, dst := range names {
			name, err := NormalizeName(dst)
			if err != nil {
				return err
			}
			if !slices.Contains(img.Names, name) {
				return fmt.Errorf("image %s has not the name %s", ref, name)
			}
			ix.untag(name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("untag: %w", err)
	}
	return nil
}

// Remove removes what ref says, with Docker's meaning: a name is taken away, and
// with its last name the image goes; NAME@DIGEST takes what this repository calls it; an ID takes all names, which must be of one repository
// unless forced. [ErrInUse] is the error when a container still needs the
// image. A forced removal takes its names then and leaves the image.
func (s *Store) Remove(ref string, opt RemoveOptions) ([]Removed, error) {
	t, err := s.begin("remove")
	if err != nil {
		return nil, fmt.Errorf("remove image: %w", err)
	}
	defer t.end()
	unlock, err := s.lockExclusive()
	if err != nil {
		return nil, fmt.Errorf("remove image: %w", err)
	}
	removed, err := t.remove(ref, opt)
	// The files themselves go when the session ends, after the lock.
	unlock()
	if err != nil {
		return nil, fmt.Errorf("remove image: %w", err)
	}
	return removed, nil
}

func (t *session) remove(ref string, opt RemoveOptions) ([]Removed, error) {
	ix, err := t.s.readIndex()
	if err != nil {
		return nil, err
	}
	img, err := t.s.resolve(ix, ref)
	if err != nil {
		return nil, err
	}
	if opt.If != nil && !opt.If(img) {
		return nil, nil
	}
	q, err := parseQuery(ref)
	if err != nil {
		return nil, err
	}
	names, err := namesToRemove(img, q, opt.Force)
	if err != nil {
		return nil, err
	}
	last := len(names) == len(img.Names)
	keep := false
	if last && opt.InUse != nil {
		users, err := opt.InUse(img.ID)
		if err != nil && !opt.Force {
			return nil, err
		}
		keep = err != nil // it may be in use
		if len(users) > 0 {
			if !opt.Force {
				return nil, fmt.Errorf("%w by %s: %s; remove the container first, or force to take only the image's names",
					ErrInUse, containers(users), ref)
			}
			keep = true
		}
	}
	var removed []Removed
	for _, name := range names {
		ix.untag(name)
		removed = append(removed, Removed{Untagged: name})
	}
	if q.digest != "" && !last {
		t.s.forget(ix, img, q.repo)
		removed = append(removed, Removed{Untagged: ref})
	}
	if last && !keep {
		deleted, err := t.s.dropImage(ix, img)
		if err != nil {
			return nil, err
		}
		removed = append(removed, deleted...)
	}
	if err := t.point("checked"); err != nil {
		return nil, err
	}
	if err := t.s.writeIndex(ix); err != nil {
		t.undo()
		return nil, err
	}
	if err := t.removeFiles(last && !keep); err != nil {
		t.undo()
		return nil, err
	}
	return removed, nil
}

// removeFiles removes what the new index does not need any more, if there can be something.
func (t *session) removeFiles(some bool) error {
	if err := t.point("index-written"); err != nil {
		return err
	}
	if some {
		if _, err := t.collect(); err != nil {
			return err
		}
	}
	return t.point("collected")
}

// namesToRemove lists the names that go when img was found by q.
func namesToRemove(img *Image, q query, force bool) ([]string, error) {
	if slices.Contains(img.Names, q.name) {
		return []string{q.name}, nil
	}
	if q.digest != "" { // all that this repository calls it; another's names are not its own to take
		return slices.DeleteFunc(slices.Clone(img.Names), func(name string) bool { return repository(name) != q.repo }), nil
	}
	repos := make(map[string]bool)
	for _, name := range img.Names {
		repos[repository(name)] = true
	}
	if len(repos) > 1 && !force {
		return nil, fmt.Errorf("image %s has names in several repositories (%s); remove by name, or force",
			q.text, strings.Join(img.Names, ", "))
	}
	return img.Names, nil
}

func containers(ids []string) string {
	short := make([]string, len(ids))
	for i, id := range ids {
		short[i] = id[:min(len(id), 12)]
	}
	if len(short) == 1 {
		return "container " + short[0]
	}
	return "containers " + strings.Join(short, ", ")
}

// dropImage removes every entry of the image from ix and says what is deleted
// with it: the ID, and the chains of layers that no other image has.
func (s *Store) dropImage(ix *index, img *Image) ([]Removed, error) {
	for _, d := range slices.Clone(ix.Manifests) {
		m, err := s.manifest(ix, d.Digest)
		if d.Digest == img.Manifest || err == nil && m.Config.Digest == digest.Digest(img.ID) {
			ix.remove(d.Digest)
		}
	}
	refs, err := s.references(ix)
	if err != nil {
		return nil, errors.Join(errors.New("another image is broken, so what this one shares with it is unknown; check the store"), err)
	}
	removed := []Removed{{Deleted: img.ID}}
	for _, l := range slices.Backward(img.Layers) {
		if !refs.layers[l.ChainID.Encoded()] {
			removed = append(removed, Removed{Deleted: l.ChainID.String()})
		}
	}
	return removed, nil
}
