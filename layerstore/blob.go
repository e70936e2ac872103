package layerstore

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mica/internal/sys"
)

// maxDocument bounds manifests and configurations, which are read whole.
const maxDocument = 16 << 20

func (s *Store) blobPath(d digest.Digest) string {
	return s.path("blobs", "sha256", d.Encoded())
}

// validDigest refuses what is no sha256 digest, before it becomes a file name.
func validDigest(d digest.Digest) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d, err)
	}
	if d.Algorithm() != digest.SHA256 {
		return fmt.Errorf("digest %q: only sha256 is supported", d)
	}
	return nil
}

// readDocument reads a small blob and verifies it.
func (s *Store) readDocument(d digest.Digest) ([]byte, error) {
	if err := validDigest(d); err != nil {
		return nil, err
	}
	f, err := os.Open(s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s is missing: %w", d, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("read blob: %w", err)
	}
	defer f.Close()
	return readDocument(f, d)
}

// readDocument reads r, which must have this digest.
func readDocument(r io.Reader, d digest.Digest) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("blob %s is larger than the %d MiB that a document may have", d, maxDocument>>20)
	}
	if got := digest.FromBytes(data); got != d {
		return nil, fmt.Errorf("blob %s is corrupt: its content has digest %s", d, got)
	}
	return data, nil
}

// parseDocument decodes a verified document.
func parseDocument(data []byte, d digest.Digest, v any) error {
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("parse %s: %w", d, err)
	}
	return nil
}

// blobWriter writes a blob into a session's directory and hashes it, in a
// goroutine of its own: the caller goes on with the same bytes meanwhile.
type blobWriter struct {
	t      *session
	path   string
	full   chan []byte // filled buffers, to the goroutine
	empty  chan []byte // and back
	done   chan error
	buf    []byte
	hash   hash.Hash
	size   int64
	failed atomic.Bool // the disk takes no more
	closed bool
}

const (
	blobChunk  = 1 << 20
	blobChunks = 4
)

func (t *session) newBlob() (*blobWriter, error) {
	path := t.newPath("blob")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("stage blob: %w", err)
	}
	w := &blobWriter{
		t: t, path: path, hash: sha256.New(),
		full:  make(chan []byte, blobChunks),
		empty: make(chan []byte, blobChunks),
		done:  make(chan error, 1),
	}
	for range blobChunks {
		w.empty <- make([]byte, 0, blobChunk)
	}
	w.buf = <-w.empty
	go w.run(f)
	return w, nil
}

func (w *blobWriter) run(f *os.File) {
	var err error
	var off int64
	for b := range w.full {
		if err == nil {
			w.hash.Write(b)
			err = sys.WriteSparse(int(f.Fd()), b, off) // all but the last are whole chunks
			w.failed.Store(err != nil)
			off += int64(len(b))
		}
		w.empty <- b[:0]
	}
	if err == nil {
		err = f.Truncate(off)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	w.done <- err
}

// Write never fails: an error of the disk comes from finish.
func (w *blobWriter) Write(p []byte) (int, error) {
	n := len(p)
	w.size += int64(n)
	for len(p) > 0 {
		k := copy(w.buf[len(w.buf):cap(w.buf)], p)
		w.buf, p = w.buf[:len(w.buf)+k], p[k:]
		if len(w.buf) == cap(w.buf) {
			w.full <- w.buf
			w.buf = <-w.empty
		}
	}
	return n, nil
}

// wait ends the goroutine, and lets go of the buffers: the writer itself may be kept for long.
func (w *blobWriter) wait() error {
	if w.closed {
		return nil
	}
	w.closed = true
	w.full <- w.buf
	close(w.full)
	err := <-w.done
	w.buf, w.full, w.empty = nil, nil, nil
	return err
}

// finish registers the blob as staged. A blob whose digest want is not what
// was written is refused; the empty digest accepts all.
func (w *blobWriter) finish(want digest.Digest, mediaType string) (ocispec.Descriptor, error) {
	if err := w.wait(); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("stage blob: %w", err)
	}
	got := digest.NewDigest(digest.SHA256, w.hash)
	if want != "" && got != want {
		return ocispec.Descriptor{}, fmt.Errorf("blob %s is corrupt: its content has digest %s", want, got)
	}
	w.t.blobs[got] = w.path
	return ocispec.Descriptor{MediaType: mediaType, Digest: got, Size: w.size}, nil
}

// stageDocument stages a small blob.
func (t *session) stageDocument(data []byte, mediaType string) (ocispec.Descriptor, error) {
	d := digest.FromBytes(data)
	path := t.newPath("doc")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return ocispec.Descriptor{}, fmt.Errorf("stage document: %w", err)
	}
	t.blobs[d] = path
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}, nil
}

// pin makes a stored blob one of the session's too, so that it is there to the end, whoever removes its image meanwhile. It
// tells whether there is one.
func (t *session) pin(d digest.Digest) (bool, error) {
	if _, ok := t.blobs[d]; ok {
		return true, nil
	}
	path := t.newPath("blob")
	err := os.Link(t.s.blobPath(d), path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("stage blob: %w", err)
	}
	t.blobs[d] = path
	return true, nil
}

// openBlob opens a blob, staged or stored, for reading in sequence.
func (t *session) openBlob(d digest.Digest) (*os.File, error) {
	if err := validDigest(d); err != nil {
		return nil, err
	}
	if path, ok := t.blobs[d]; ok {
		return os.Open(path)
	}
	f, err := os.Open(t.s.blobPath(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("blob %s is missing: %w", d, fs.ErrNotExist)
	}
	return f, err
}

// buffered is a reader with a buffer fit for archives.
func buffered(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 256<<10) }
