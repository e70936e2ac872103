package layerstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Load reads images from an archive: `docker save`'s or OCI's, of any
// compression. Every digest is verified and every layer unpacked before any image is added. Images come with the names
// that they have in the archive.
func (s *Store) Load(ctx context.Context, r io.Reader, opt LoadOptions) ([]*Image, error) {
	return s.load(ctx, opt, func(t *session) (bundle, error) { return t.openTarBundle(ctx, r) })
}

// LoadPath is Load of a file, or of a directory that is an OCI image layout.
func (s *Store) LoadPath(ctx context.Context, path string, opt LoadOptions) ([]*Image, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	if st.IsDir() {
		return s.load(ctx, opt, func(t *session) (bundle, error) { return t.openDirBundle(ctx, path) })
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer f.Close()
	return s.Load(ctx, f, opt)
}

func (s *Store) load(ctx context.Context, opt LoadOptions, open func(*session) (bundle, error)) ([]*Image, error) {
	name, err := optionalName(opt.Ref)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	t, err := s.begin("load")
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer t.end()
	b, err := open(t)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	defer b.close()
	l := &loader{t: t, b: b, blobs: bundleBlobs{b}}
	if err := l.all(ctx); err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	images, err := l.publish(name)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return images, nil
}

// loader collects the images of one bundle, or of a registry.
type loader struct {
	t        *session
	b        bundle // nil for a registry
	blobs    blobs
	platform ocispec.Platform // which image of a list is taken; zero: this machine's
	loaded   []loadedImage
}

// loadedImage is an image whose blobs are staged.
type loadedImage struct {
	desc  ocispec.Descriptor
	names []string
}

// all reads every image of the bundle. An archive that is OCI's and
// Docker's at once, as newer versions of Docker write, is read as OCI's, which has the
// manifests that others know the images by.
func (l *loader) all(ctx context.Context) error {
	var err error
	switch {
	case l.b.has(ocispec.ImageIndexFile):
		err = l.layout(ctx)
	case l.b.has(dockerManifest):
		err = l.dockerArchive(ctx)
	default:
		return errors.New("this holds no images: neither index.json nor manifest.json is in it; a root filesystem's archive is imported instead")
	}
	if err == nil && len(l.loaded) == 0 {
		err = errors.New("this holds no images: its list of them is empty")
	}
	return err
}

// add stages what makes an image usable: its layers, unpacked, each as soon as stage, which may be nil, has brought its blob.
func (l *loader) add(ctx context.Context, desc ocispec.Descriptor, m *ocispec.Manifest, cfg *ImageConfig, names []string,
	stage func(ocispec.Descriptor) error) error {
	if err := checkLayerCount(len(m.Layers)); err != nil {
		return err
	}
	u := unpacker{t: l.t, verify: true}
	for i, layer := range imageLayers(m, cfg) {
		if stage != nil {
			if err := stage(m.Layers[i]); err != nil {
				return err
			}
		}
		if err := u.add(ctx, layer); err != nil {
			return err
		}
	}
	// What the archive notes beside the descriptor is no business of this store.
	desc = ocispec.Descriptor{
		MediaType: desc.MediaType, Digest: desc.Digest, Size: desc.Size, Platform: bounded(desc.Platform),
	}
	for i := range l.loaded {
		if l.loaded[i].desc.Digest == desc.Digest {
			l.loaded[i].names = append(l.loaded[i].names, names...)
			return nil
		}
	}
	l.loaded = append(l.loaded, loadedImage{desc, names})
	return nil
}

// publish adds all images to the store at once. name is for a single image
// that the archive does not name.
func (l *loader) publish(name string) ([]*Image, error) {
	if name != "" {
		if len(l.loaded) != 1 {
			return nil, fmt.Errorf("the archive holds %d images, so that one name cannot be given", len(l.loaded))
		}
		if len(l.loaded[0].names) == 0 {
			l.loaded[0].names = []string{name}
		}
	}
	err := l.t.publish(func(ix *index) error {
		for _, img := range l.loaded {
			ix.add(img.desc, "")
			for _, name := range img.names {
				ix.add(img.desc, name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	images := make([]*Image, 0, len(l.loaded))
	for _, done := range l.loaded {
		img, err := l.t.s.reload(done.desc)
		if err != nil {
			return nil, err
		}
		img.Names = slices.DeleteFunc(img.Names, func(name string) bool { return !slices.Contains(done.names, name) })
		images = append(images, img)
	}
	return images, nil
}
