package layerstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"mica/internal/atomicfile"
	"mica/internal/failpoint"
	"mica/internal/sys"
)

// session is one operation that changes the store: its directory in tmp/ and
// what it has staged there. The lock on the directory says that the process
// lives.
type session struct {
	s      *Store
	op     string // names the operation in failpoints
	dir    string
	f      *os.File // the directory, locked
	serial atomic.Int64
	dirty  bool // an error has left things in the store that nothing refers to

	blobs  map[digest.Digest]string // staged files
	layers map[string]string        // staged trees by their final name
	infos  map[string]layerInfo     // by the name of the layer

	diffIDs    map[digest.Digest]digest.Digest // of blobs, as far as they were verified
	knowsStore bool                            // diffIDs has what the images of the store have
}

// layerInfo is layers/HEX.json: what only reading the whole archive tells.
type layerInfo struct {
	Size int64 `json:"size"` // bytes of the files in the archive
	// Chained says that the tree takes something from the layers below (a
	// directory that the archive has no entry for, the target of a hard link), so that
	// it is right over these only and is called by its chainID.
	Chained bool `json:"chained,omitempty"`
}

// freeing are the operations by which space is found and freed.
var freeing = []string{"check", "gc", "recover", "remove", "untag"}

// begin opens a session. op is "import", "commit" and so on.
func (s *Store) begin(op string) (*session, error) {
	// Under the shared lock no other process takes the new directory, not
	// locked yet, for a dead one's.
	unlock, err := s.lockShared()
	if err != nil {
		return nil, err
	}
	defer unlock()
	var dir string
	mkdir := func() (err error) {
		dir, err = os.MkdirTemp(s.path("tmp"), op+"-")
		return err
	}
	if slices.Contains(freeing, op) {
		err = s.withReserve(mkdir)
	} else {
		err = mkdir()
	}
	if err != nil {
		return nil, fmt.Errorf("make staging directory: %w", err)
	}
	f, err := os.Open(dir)
	if err == nil {
		err = flock(f, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		if f != nil {
			_ = f.Close()
		}
		_ = os.Remove(dir)
		return nil, fmt.Errorf("lock staging directory: %w", err)
	}
	return &session{
		s: s, op: op, dir: dir, f: f,
		blobs:  make(map[digest.Digest]string),
		layers: make(map[string]string),
		infos:  make(map[string]layerInfo),

		diffIDs: make(map[digest.Digest]digest.Digest),
	}, nil
}

// Scratch makes a directory in the store for an operation, which is gone once release is called. Where the process dies before
// that, the next [Tidy] or [Open] of the store removes it.
func (s *Store) Scratch(op string) (dir string, release func(), err error) {
	t, err := s.begin(op)
	if err != nil {
		return "", nil, err
	}
	return t.dir, t.end, nil
}

// end removes whatever the session left in its directory, and the directory.
func (t *session) end() {
	// What stays is for the next Open to clear away: with the lock gone, the
	// directory is a dead process's.
	if !t.dirty {
		_ = sys.RemoveAll(t.dir)
	}
	_ = t.f.Close()
}

// undo clears away what an operation that failed under the exclusive lock
// may have put in place, or else leaves that to the next Open.
func (t *session) undo() {
	if _, err := t.collect(); err != nil {
		t.dirty = true
	}
}

// newPath gives a fresh name in the session's directory.
func (t *session) newPath(kind string) string {
	return filepath.Join(t.dir, kind+strconv.FormatInt(t.serial.Add(1), 10))
}

// point is a failpoint of this operation.
func (t *session) point(name string) error { return failpoint.Hit(t.op + "." + name) }

// publish makes everything staged part of the store. Under the exclusive lock,
// change edits the index; its error leaves the store as it was.
func (t *session) publish(change func(ix *index) error) error {
	if err := t.point("staged"); err != nil {
		return err
	}
	if err := t.sync(); err != nil {
		return fmt.Errorf("sync staged files: %w", err)
	}
	if err := t.point("synced"); err != nil {
		return err
	}
	unlock, err := t.s.lockExclusive()
	if err != nil {
		return err
	}
	defer unlock()
	ix, err := t.s.readIndex()
	if err != nil {
		return err
	}
	before, err := ix.encode()
	if err != nil {
		return err
	}
	if err := change(ix); err != nil {
		return err
	}
	if err := t.place(ix, before); err != nil {
		t.undo()
		return err
	}
	return nil
}

// place renames everything staged to its final name, the index last.
func (t *session) place(ix *index, before []byte) error {
	if err := t.placeBlobs(); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	if err := t.point("blobs-placed"); err != nil {
		return err
	}
	if err := t.placeLayers(); err != nil {
		return fmt.Errorf("store layer: %w", err)
	}
	if err := t.point("layers-placed"); err != nil {
		return err
	}
	if after, err := ix.encode(); err != nil || bytes.Equal(before, after) {
		return err
	}
	if err := t.s.writeIndex(ix); err != nil {
		return err
	}
	return t.point("index-written")
}

// sync makes what is staged last before a rename gives it its final name.
func (t *session) sync() error {
	if len(t.layers) > 0 {
		return syncFilesystem(t.dir)
	}
	for _, path := range t.blobs {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		err = f.Sync()
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *session) placeBlobs() error {
	if len(t.blobs) == 0 {
		return nil
	}
	for d, path := range t.blobs {
		// In place of one that is there, too: that may have been damaged since.
		if err := os.Rename(path, t.s.blobPath(d)); err != nil {
			return err
		}
		if err := t.point("blob-placed"); err != nil {
			return err
		}
	}
	return atomicfile.SyncDir(t.s.path("blobs", "sha256"))
}

func (t *session) placeLayers() error {
	for name, info := range t.infos {
		if err := t.s.writeLayerInfo(name, info); err != nil {
			return err
		}
	}
	if len(t.layers) == 0 {
		return nil
	}
	for name, path := range t.layers {
		err := os.Rename(path, t.s.path("layers", name))
		if errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTEMPTY) {
			continue // another process was faster
		}
		if err != nil {
			return err
		}
		if err := t.point("layer-placed"); err != nil {
			return err
		}
		err = os.Rename(CatalogOf(path), CatalogOf(t.s.path("layers", name)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return atomicfile.SyncDir(t.s.path("layers"))
}

func (s *Store) layerInfoPath(name string) string { return s.path("layers", name+infoSuffix) }

// writeLayerInfo writes layers/NAME.json. The caller holds the exclusive lock.
func (s *Store) writeLayerInfo(name string, info layerInfo) error {
	// A commit knows the size only; what unpacking found out stays.
	if old, err := s.readLayerInfo(name); err == nil && old.Size == info.Size && (old.Chained || !info.Chained) {
		return nil
	}
	data, err := json.Marshal(info)
	if err != nil {
		return err
	}
	return atomicfile.ReplaceDurably(s.layerInfoPath(name), data)
}

// readLayerInfo reads layers/NAME.json; [fs.ErrNotExist] if there is none that is whole.
func (s *Store) readLayerInfo(name string) (layerInfo, error) {
	var info layerInfo
	data, err := os.ReadFile(s.layerInfoPath(name))
	if err != nil {
		return info, err
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return info, fmt.Errorf("%w: %s does not parse", fs.ErrNotExist, s.layerInfoPath(name))
	}
	return info, nil
}
