package layerstore

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"mica/cow"
)

// Layers gives the directories of the image's layers, topmost first, and
// unpacks those that are missing. A layer is verified against its digest as it is unpacked.
func (s *Store) Layers(ctx context.Context, img *Image) ([]string, error) {
	dirs, missing := s.layerDirs(img.Layers)
	if !missing {
		return dirs, nil
	}
	t, err := s.begin("unpack")
	if err != nil {
		return nil, err
	}
	defer t.end()
	if err := t.unpack(ctx, img.Layers); err != nil {
		return nil, err
	}
	err = t.publish(func(ix *index) error {
		if !ix.has(img.Manifest) {
			return fmt.Errorf("%w: %s was removed meanwhile", ErrNotFound, img.ID)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if dirs, missing = s.layerDirs(img.Layers); missing {
		return nil, fmt.Errorf("%w: %s was removed meanwhile", ErrNotFound, img.ID)
	}
	return dirs, nil
}

// layerDirs gives the unpacked directories, topmost first; an empty string
// stands for each that is missing.
func (s *Store) layerDirs(layers []Layer) (dirs []string, missing bool) {
	dirs = make([]string, len(layers))
	for i, l := range layers {
		dir := s.layerDir(l)
		dirs[len(layers)-1-i] = dir
		missing = missing || dir == ""
	}
	return dirs, missing
}

// layerDir gives the directory of an unpacked layer, or "".
func (s *Store) layerDir(l Layer) string {
	info, err := s.readLayerInfo(l.DiffID.Encoded())
	if err != nil {
		return ""
	}
	if dir := s.path("layers", info.dirName(l)); exists(dir) {
		return dir
	}
	return ""
}

// dirName is the layer's name in layers/.
func (i layerInfo) dirName(l Layer) string {
	if i.Chained {
		return l.ChainID.Encoded()
	}
	return l.DiffID.Encoded()
}

// unpack unpacks what is missing of layers, lowest first, from staged or stored blobs.
func (t *session) unpack(ctx context.Context, layers []Layer) error {
	u := unpacker{t: t}
	for _, l := range layers {
		if err := u.add(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

// unpacker unpacks the layers of one image, which it is given lowest first.
type unpacker struct {
	t      *session
	verify bool // the blobs are new here: one whose layer is unpacked already is verified all the same
	given  []Layer
	below  []string // directories of those it has been given, topmost first
}

// add unpacks a layer if it is not unpacked yet.
func (u *unpacker) add(ctx context.Context, l Layer) error {
	err := u.addOne(ctx, l)
	if err == nil || !u.vanished() {
		return err
	}
	// The image that had the layers below was removed meanwhile: they are unpacked for this one, too.
	layers := append(u.given, l)
	u.given, u.below = nil, nil
	for _, l := range layers {
		if err := u.addOne(ctx, l); err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) addOne(ctx context.Context, l Layer) error {
	dir := u.t.s.layerDir(l)
	if dir == "" {
		dir = u.t.stagedLayer(l)
	}
	var err error
	switch {
	case dir == "":
		dir, err = u.t.unpackLayer(ctx, l, u.below)
	case u.verify:
		err = u.t.verifyLayer(ctx, l)
	}
	if err != nil {
		return layerError(l.DiffID, err)
	}
	u.given, u.below = append(u.given, l), append([]string{dir}, u.below...)
	return nil
}

// vanished tells whether a layer that was there is no more.
func (u *unpacker) vanished() bool {
	return slices.ContainsFunc(u.below, func(dir string) bool { return !exists(dir) })
}

func (t *session) stagedLayer(l Layer) string {
	return t.layers[t.infos[l.DiffID.Encoded()].dirName(l)]
}

// unpackLayer unpacks one layer from its blob and verifies it.
func (t *session) unpackLayer(ctx context.Context, l Layer, below []string) (dir string, err error) {
	f, err := t.openBlob(l.Blob)
	if err != nil {
		return "", err
	}
	defer f.Close()
	stream, err := t.newLayerStream(ctx, f, false)
	if err != nil {
		return "", err
	}
	defer stream.abandon()
	dir = t.newPath("layer")
	result, err := extract(ctx, stream, dir, below)
	if err == nil {
		err = t.checkDiffID(l, stream)
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return "", err
	}
	t.stageLayer(l, dir, result)
	return dir, nil
}

// checkDiffID reads the rest of a layer's archive and holds its digest against what the image says.
func (t *session) checkDiffID(l Layer, stream *layerStream) error {
	diffID, _, err := stream.finish()
	if err != nil {
		return err
	}
	if diffID != l.DiffID {
		return fmt.Errorf("its archive has digest %s when unpacked, not the one that the image names", diffID)
	}
	t.diffIDs[l.Blob] = diffID
	return nil
}

// verifyLayer reads a blob for its diffID, unless that is known. Else an image could name another's layer, which is what runs,
// and another blob, which is what is saved and pushed.
func (t *session) verifyLayer(ctx context.Context, l Layer) error {
	if known, err := t.knowsDiffID(l); known || err != nil {
		return err
	}
	f, err := t.openBlob(l.Blob)
	if err != nil {
		return err
	}
	defer f.Close()
	stream, err := t.newLayerStream(ctx, f, false)
	if err != nil {
		return err
	}
	return t.checkDiffID(l, stream)
}

// knowsDiffID tells whether a blob was verified: in this session, or as one of an image of the store, all of which were.
func (t *session) knowsDiffID(l Layer) (bool, error) {
	if l.Blob == l.DiffID || t.diffIDs[l.Blob] == l.DiffID {
		return true, nil
	}
	if t.knowsStore {
		return false, nil
	}
	t.knowsStore = true
	unlock, err := t.s.lockShared()
	if err != nil {
		return false, err
	}
	defer unlock()
	ix, err := t.s.readIndex()
	if err != nil {
		return false, err
	}
	for _, d := range ix.Manifests {
		m, err := t.s.manifest(ix, d.Digest)
		if err != nil {
			continue // one broken image must not hide the others
		}
		cfg, err := t.s.config(m)
		if err != nil {
			continue
		}
		for i, l := range m.Layers {
			t.diffIDs[l.Digest] = cfg.RootFS.DiffIDs[i]
		}
	}
	return t.diffIDs[l.Blob] == l.DiffID, nil
}

// The files beside an unpacked layer in layers/.
const (
	infoSuffix    = ".json"
	catalogSuffix = ".catalog"
)

// CatalogOf gives where the catalog of an unpacked layer is, if it has one: see [cow.WriteCatalog].
func CatalogOf(dir string) string { return dir + catalogSuffix }

// layerOf gives the name of the layer that a name in layers/ belongs to.
func layerOf(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(name, infoSuffix), catalogSuffix)
}

// stageLayer registers an unpacked tree.
func (t *session) stageLayer(l Layer, dir string, info layerInfo) {
	// Without a catalog all is right, but slower.
	_ = cow.WriteCatalog(CatalogOf(dir), dir)
	t.layers[info.dirName(l)] = dir
	t.infos[l.DiffID.Encoded()] = info
}
