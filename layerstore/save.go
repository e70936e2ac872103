package layerstore

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Save writes images as one archive. An image found by name gets that name in
// the archive, one found by ID gets none. Every blob is verified as it is read.
func (s *Store) Save(ctx context.Context, w io.Writer, refs []string, format SaveFormat) error {
	if len(refs) == 0 {
		return errors.New("save: no image is named")
	}
	images, err := s.toSave(refs)
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	a := &archiver{ctx: ctx, s: s, tw: tar.NewWriter(w), written: make(map[string]bool)}
	switch format {
	case OCIArchive:
		err = a.ociArchive(images)
	case DockerArchive:
		err = a.dockerArchive(images)
	default:
		err = fmt.Errorf("unknown format %d", format)
	}
	if err == nil {
		err = a.tw.Close()
	}
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	return nil
}

// savedImage is an image and the names that the archive gives it.
type savedImage struct {
	*Image
	manifest *ocispec.Manifest
	desc     ocispec.Descriptor
	names    []string // in Docker's short form
}

// toSave looks up the images, each once.
func (s *Store) toSave(refs []string) ([]*savedImage, error) {
	ix, unlock, err := s.sharedIndex()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var images []*savedImage
	for _, ref := range refs {
		img, err := s.resolve(ix, ref)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(images, func(o *savedImage) bool { return o.Manifest == img.Manifest })
		if i < 0 {
			m, err := s.manifest(ix, img.Manifest)
			if err != nil {
				return nil, err
			}
			entry := slices.IndexFunc(ix.Manifests, func(d ocispec.Descriptor) bool { return d.Digest == img.Manifest })
			d := ix.Manifests[entry]
			d.Annotations = nil
			i = len(images)
			images = append(images, &savedImage{Image: img, manifest: m, desc: d})
		}
		if q, err := parseQuery(ref); err == nil && slices.Contains(img.Names, q.name) && !slices.Contains(images[i].names, q.name) {
			images[i].names = append(images[i].names, q.name)
		}
	}
	return images, nil
}

// archiver writes one archive of images.
type archiver struct {
	ctx     context.Context
	s       *Store
	tw      *tar.Writer
	written map[string]bool // names of entries
}

// ociArchive writes a tar of an OCI image layout. The names are given in the
// annotation that OCI has for it and in the one that Docker reads.
func (a *archiver) ociArchive(images []*savedImage) error {
	if err := a.file(ocispec.ImageLayoutFile, []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`)); err != nil {
		return err
	}
	// Without entries for the directories, programs that unpack the archive make
	// them root's, or fail to.
	for _, name := range []string{"blobs/", "blobs/sha256/"} {
		err := a.tw.WriteHeader(&tar.Header{
			Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
		})
		if err != nil {
			return err
		}
	}
	ix := newIndex()
	for _, img := range images {
		for _, d := range append([]ocispec.Descriptor{img.desc, img.manifest.Config}, img.manifest.Layers...) {
			if err := a.blob(blobName(d.Digest), d); err != nil {
				return err
			}
		}
		if len(img.names) == 0 {
			ix.Manifests = append(ix.Manifests, img.desc)
		}
		for _, name := range img.names {
			d := withName(img.desc, name)
			named, err := parseName(name)
			if err != nil {
				return err
			}
			d.Annotations[containerdName] = named.FullTagged()
			ix.Manifests = append(ix.Manifests, d)
		}
	}
	data, err := json.Marshal(&ix.Index)
	if err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return a.file(ocispec.ImageIndexFile, data)
}

// dockerArchive writes what every version of Docker loads.
func (a *archiver) dockerArchive(images []*savedImage) error {
	list := make([]dockerImage, 0, len(images))
	for _, img := range images {
		entry := dockerImage{Config: img.manifest.Config.Digest.Encoded() + ".json", RepoTags: []string{}}
		if err := a.blob(entry.Config, img.manifest.Config); err != nil {
			return err
		}
		for _, name := range img.names {
			named, err := parseName(name)
			if err != nil {
				return err
			}
			entry.RepoTags = append(entry.RepoTags, named.Tagged())
		}
		for i, d := range img.manifest.Layers {
			name := img.Image.Layers[i].DiffID.Encoded() + ".tar"
			if err := a.plainLayer(name, d, img.Image.Layers[i].DiffID); err != nil {
				return err
			}
			entry.Layers = append(entry.Layers, name)
		}
		list = append(list, entry)
	}
	data, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("write manifest.json: %w", err)
	}
	return a.file(dockerManifest, data)
}

// header begins an entry, and tells whether it is to be written: each name is written once.
func (a *archiver) header(name string, size int64) (bool, error) {
	if a.written[name] {
		return false, nil
	}
	a.written[name] = true
	return true, a.tw.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	})
}

func (a *archiver) file(name string, data []byte) error {
	write, err := a.header(name, int64(len(data)))
	if err == nil && write {
		_, err = a.tw.Write(data)
	}
	return err
}

// blob writes a stored blob as it is.
func (a *archiver) blob(name string, d ocispec.Descriptor) error {
	f, err := os.Open(a.s.blobPath(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s is missing", d.Digest)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	write, err := a.header(name, st.Size())
	if err != nil || !write {
		return err
	}
	return a.copy(f, d.Digest)
}

func (a *archiver) copy(r io.Reader, want digest.Digest) error {
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(a.tw, sum), contextReader{a.ctx, r}); err != nil {
		return fmt.Errorf("write blob %s: %w", want, err)
	}
	if got := digest.NewDigest(digest.SHA256, sum); got != want {
		return fmt.Errorf("blob %s is corrupt: its content has digest %s", want, got)
	}
	return nil
}

// plainLayer writes a layer's archive decompressed. It is decompressed twice,
// since a tar needs to know the size first.
func (a *archiver) plainLayer(name string, d ocispec.Descriptor, diffID digest.Digest) error {
	if d.Digest == diffID {
		return a.blob(name, d)
	}
	size, err := a.decompressed(d, func(r io.Reader) (int64, error) {
		return io.Copy(io.Discard, contextReader{a.ctx, r})
	})
	if err != nil {
		return layerError(diffID, err)
	}
	write, err := a.header(name, size)
	if err != nil || !write {
		return err
	}
	_, err = a.decompressed(d, func(r io.Reader) (int64, error) { return 0, a.copy(r, diffID) })
	if err != nil {
		return layerError(diffID, err)
	}
	return nil
}

// decompressed opens a layer's archive and gives use the plain tar.
func (a *archiver) decompressed(d ocispec.Descriptor, use func(io.Reader) (int64, error)) (int64, error) {
	f, err := os.Open(a.s.blobPath(d.Digest))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	br := buffered(f)
	kind, err := detect(br)
	if err != nil {
		return 0, readError(err)
	}
	r, closeDecoder, err := kind.decompress(br)
	if err != nil {
		return 0, readError(err)
	}
	defer closeDecoder()
	return use(r)
}
