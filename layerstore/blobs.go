package layerstore

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blobs is where the blobs of images come from: an OCI image layout, or a registry.
type blobs interface {
	// has tells whether there is a manifest of this digest.
	has(d digest.Digest) bool
	// document reads a manifest or a configuration and verifies it.
	document(d ocispec.Descriptor) ([]byte, error)
	// expect says which layers' blobs will be asked for, in this order, so that they can be under way.
	expect(layers []Layer)
	// stage makes a blob, of the digest and size that d says, one of the session.
	stage(d ocispec.Descriptor) error
}

// bundleBlobs is the OCI image layout in a bundle.
type bundleBlobs struct{ b bundle }

func blobName(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

func (b bundleBlobs) has(d digest.Digest) bool { return b.b.has(blobName(d)) }

func (b bundleBlobs) document(d ocispec.Descriptor) ([]byte, error) {
	f, err := b.b.open(blobName(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s is missing", d.Digest)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readDocument(f, d.Digest)
}

func (b bundleBlobs) expect([]Layer) {}

func (b bundleBlobs) stage(d ocispec.Descriptor) error {
	staged, err := b.b.stage(blobName(d.Digest), d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s of the image is missing", d.Digest)
	}
	if err != nil {
		return err
	}
	return checkSize(staged, d)
}

// checkSize holds a staged blob against its descriptor.
func checkSize(staged, d ocispec.Descriptor) error {
	if staged.Size != d.Size {
		return fmt.Errorf("blob %s has %d bytes, its descriptor says %d", d.Digest, staged.Size, d.Size)
	}
	return nil
}
