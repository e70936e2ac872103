// Package layerstore keeps container images on disk, addressed by content.
//
// # On disk
//
// The store's root is an OCI image layout, and beside it what only mica reads:
//
//	oci-layout, index.json   the layout; a name is the annotation
//	                         org.opencontainers.image.ref.name = NAME:TAG
//	blobs/sha256/HEX         manifests, configurations, layer archives
//	layers/HEX/              a layer's tree in stored form (package ondisk), by diffID;
//	                         by chainID where it takes something from the layers below
//	layers/HEX.json          what unpacking found out of the layer with this diffID
//	layers/HEX.catalog       the listings of all its directories, for those who mount it
//	containers/              the containers; other packages' business
//	tmp/ID/                  one directory for each operation under way
//	reserve                  space to remove images with when the disk is full
//	lock                     flock(2): shared to look things up, exclusive to change
//
// # Order of writes
//
// An operation stages all it makes in tmp/ID without the store's lock, syncs
// it, then takes the exclusive lock and renames: blobs first, then layers, then
// index.json, which is the commit. A crash leaves the old or the new index
// and perhaps things that nothing refers to; the tmp directory of a dead
// process is what tells the next [Open] to collect them.
//
// # Locks
//
// The lock file is opened anew for every use, so it orders goroutines and
// processes alike. It is held for renames and for reading small documents, not
// while an archive is read, a blob downloaded or a tree removed; but the size of a layer that nobody
// has noted yet is found by reading it, under the shared lock.
//
//	tmp/ID (exclusive, for as long as the operation lives)
//	  lock (shared or exclusive)
package layerstore

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mica/internal/atomicfile"
	"mica/internal/sys"
)

// Store is a store of images. Its methods may be called at the same time by
// many goroutines and processes.
type Store struct {
	root string // immutable
}

// DefaultRoot is $XDG_DATA_HOME/mica, or ~/.local/share/mica; without $HOME
// the home directory is the user database's.
func DefaultRoot() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mica"), nil
	}
	home := os.Getenv("HOME")
	if home == "" {
		if u, err := user.LookupId(strconv.Itoa(os.Getuid())); err == nil {
			home = u.HomeDir
		}
	}
	if !filepath.IsAbs(home) {
		return "", errors.New("find the store: you have no home directory: set HOME or MICA_ROOT to a directory")
	}
	return filepath.Join(home, ".local", "share", "mica"), nil
}

// Open opens the store at root, makes it if there is none, and clears away
// what dead processes left.
func Open(root string) (*Store, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	s := &Store{root: root}
	if err := s.create(); err != nil {
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	s.keepReserve()
	if err := s.recover(s.lockExclusive); err != nil {
		return nil, fmt.Errorf("recover store %s: %w", root, err)
	}
	return s, nil
}

// create makes what a store consists of, where it is missing.
func (s *Store) create() error {
	for _, dir := range []string{"", "blobs/sha256", "layers", "containers", "tmp"} {
		if exists(s.path(dir)) {
			continue
		}
		if err := os.MkdirAll(s.path(dir), 0o700); err != nil {
			return err
		}
		if err := spread(s.path(dir)); err != nil { // each directory in it gets a new name
			return err
		}
	}
	if exists(s.path(ocispec.ImageLayoutFile)) && exists(s.path(ocispec.ImageIndexFile)) {
		return nil
	}
	unlock, err := s.lockExclusive()
	if err != nil {
		return err
	}
	defer unlock()
	if !exists(s.path(ocispec.ImageIndexFile)) {
		if err := s.writeIndex(newIndex()); err != nil {
			return err
		}
	}
	layout := []byte(`{"imageLayoutVersion":"` + ocispec.ImageLayoutVersion + `"}`)
	return atomicfile.ReplaceDurably(s.path(ocispec.ImageLayoutFile), layout)
}

// spread has the trees in a directory placed apart from each other.
func spread(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	sys.Spread(int(d.Fd()))
	return nil
}

// Root is the directory that holds the store.
func (s *Store) Root() string { return s.root }

func (s *Store) path(elem ...string) string {
	return filepath.Join(append([]string{s.root}, elem...)...)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
