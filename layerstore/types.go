package layerstore

import (
	"errors"
	"time"

	"github.com/opencontainers/go-digest"
)

// The errors that callers tell apart with [errors.Is].
var (
	ErrNotFound  = errors.New("no such image")
	ErrAmbiguous = errors.New("several images have an ID that begins so")
	ErrInUse     = errors.New("image is in use")
	ErrNoImage   = errors.New("no image") // but a signature, say
)

// Image is one image of the store, as it was when it was looked up.
type Image struct {
	ID       string        // "sha256:HEX", the digest of the configuration
	Manifest digest.Digest // the digest of the manifest
	Names    []string      // "NAME:TAG" in Docker's short form, sorted; none for an untagged image
	Digests  []string      // "NAME@DIGEST" that registries know it by
	Created  time.Time     // zero where the image does not say
	Size     int64         // bytes of the files in all layers, unpacked
	Config   *ImageConfig
	Layers   []Layer // lowest first
	OverHost bool    // committed here over the root of the machine; an image of elsewhere may only say so
	Step     string  // of the build that made it here; see [CommitOptions]

	known map[string]digest.Digest // by name; see [Image.RegistryDigest]
}

// IsStep tells whether the image is there for later builds only.
func (img *Image) IsStep() bool { return img.Step != "" && len(img.Names) == 0 }

// Layer is one layer of an image.
type Layer struct {
	DiffID    digest.Digest // of the uncompressed archive
	ChainID   digest.Digest // of this layer and all below it
	Blob      digest.Digest // of the archive as stored
	MediaType string
	BlobSize  int64 // bytes of the archive as stored
	Size      int64 // bytes of the files in the archive
}

// ImportOptions say what an imported image gets beside its layer.
type ImportOptions struct {
	Changes      []string // instructions of a Dockerfile, as for [CommitOptions]
	Message      string   // the history's comment; empty: where the archive came from
	Source       string   // for the default message: a file name, "-"
	OS           string   // empty: linux
	Architecture string   // GOARCH's name; empty: this machine's
	Variant      string
}

// LoadOptions say how archives of images are read.
type LoadOptions struct {
	// Ref names an image that the archive itself gives no name; with several
	// images in the archive it must be empty.
	Ref string
}

// SaveFormat is a form of archive for images.
type SaveFormat uint8

// The formats of [Store.Save].
const (
	OCIArchive    SaveFormat = iota // a tar of an OCI image layout
	DockerArchive                   // what `docker save` writes
)

// CommitOptions say what a committed image gets beside its new layer.
type CommitOptions struct {
	Author    string
	Message   string
	Ref       string   // NAME[:TAG]; empty: the image stays untagged
	CreatedBy string   // the command that made the changes
	Changes   []string // CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR

	// Config replaces the parent's container configuration as what Changes
	// start from; nil means the parent's.
	Config *ContainerConfig
	// Steps go into the history before the commit's own: they changed the configuration alone.
	Steps []HistoryEntry
	// Created is the time that the image and its steps bear, and at most that which files bear; zero is now.
	Created time.Time
	// OverHost notes in this store that the image was made over the root of the
	// machine.
	OverHost bool
	// Step, if not empty, notes in this store which step of a build the image is the result of; see [Store.Built].
	Step string
}

// RemoveOptions say how far [Store.Remove] goes.
type RemoveOptions struct {
	// Force removes all names of an image at once. An image that containers use
	// loses its names only.
	Force bool
	// InUse lists the IDs of the containers of the image with this ID; nil: none.
	// It is called under the store's exclusive lock and must not call the store.
	InUse func(id string) ([]string, error)
	// If, unless nil, says under that lock whether the image, as it is by now, is to be removed at all.
	If func(*Image) bool
}

// Removed is one thing that [Store.Remove] did.
type Removed struct {
	Untagged string // a name, or empty
	Deleted  string // the ID of an image or a layer's digest, or empty
}

// HistoryRow is one line of an image's history as `docker history` shows it,
// newest first.
type HistoryRow struct {
	ID        string // "sha256:HEX", or "<missing>"
	Created   time.Time
	CreatedBy string
	Comment   string
	Author    string
	Size      int64 // bytes
	Names     []string
}

// Report is what [Store.Check] found.
type Report struct {
	Images, Blobs, Layers int
	Problems              []Problem
}

// Problem is one thing wrong in a store.
type Problem struct {
	Path     string // relative to the store's root
	What     string
	Repaired bool
}

// Clean tells whether nothing is wrong any more.
func (r *Report) Clean() bool {
	for _, p := range r.Problems {
		if !p.Repaired {
			return false
		}
	}
	return true
}

// GCResult says what a collection removed.
type GCResult struct {
	Blobs, Layers int
	Bytes         int64 // of blobs
}
