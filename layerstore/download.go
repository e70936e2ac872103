package layerstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// parallelBlobs is how many blobs are on their way at once, as in Docker.
const parallelBlobs = 3

// remoteBlobs are the blobs of one repository of a registry. What the store has
// already is taken from there. Layers are downloaded in goroutines, in the
// order in which they will be asked for; all else is the loader's goroutine's.
type remoteBlobs struct {
	ctx   context.Context
	stop  context.CancelCauseFunc
	t     *session
	src   Source
	track Track
	docs  map[digest.Digest][]byte // read so far
	await map[digest.Digest]*download
	wg    sync.WaitGroup
}

// download is one blob on its way. done is closed when it has ended; blob and err are set then.
type download struct {
	desc ocispec.Descriptor
	here string // the store's, which may be damaged: it is verified first
	done chan struct{}
	blob *blobWriter
	err  error
}

func newRemoteBlobs(ctx context.Context, t *session, src Source, track Track) *remoteBlobs {
	r := &remoteBlobs{t: t, src: src, track: track, docs: make(map[digest.Digest][]byte), await: make(map[digest.Digest]*download)}
	r.ctx, r.stop = context.WithCancelCause(ctx)
	return r
}

// close ends what is still under way.
func (r *remoteBlobs) close() {
	r.stop(context.Canceled)
	r.wg.Wait()
}

// failure is the first error of a download, where err only says that this one ended all.
func (r *remoteBlobs) failure(err error) error {
	if cause := context.Cause(r.ctx); cause != nil && errors.Is(err, context.Canceled) {
		return cause
	}
	return err
}

func (r *remoteBlobs) has(digest.Digest) bool { return true }

func (r *remoteBlobs) document(d ocispec.Descriptor) ([]byte, error) {
	if data, ok := r.docs[d.Digest]; ok {
		return data, nil
	}
	if err := checkRemote(d); err != nil {
		return nil, err
	}
	data, err := r.t.s.readDocument(d.Digest)
	if err != nil { // missing, or not whole
		if isManifestType(d.MediaType) {
			_, data, err = r.src.Manifest(r.ctx, d.Digest.String())
		} else {
			data, err = r.readConfig(d)
		}
	}
	if err != nil {
		return nil, err
	}
	if got := digest.FromBytes(data); got != d.Digest {
		return nil, fmt.Errorf("blob %s is corrupt: its content has digest %s", d.Digest, got)
	}
	if err := checkSize(ocispec.Descriptor{Size: int64(len(data))}, d); err != nil {
		return nil, err
	}
	r.docs[d.Digest] = data
	return data, nil
}

func (r *remoteBlobs) readConfig(d ocispec.Descriptor) ([]byte, error) {
	if d.Size > maxDocument {
		return nil, fmt.Errorf("blob %s is larger than the %d MiB that a document may have", d.Digest, maxDocument>>20)
	}
	rc, err := r.src.Blob(r.ctx, d)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", d.Digest, err)
	}
	defer rc.Close()
	return readDocument(rc, d.Digest)
}

// checkRemote refuses a descriptor before anything is done with what it says.
func checkRemote(d ocispec.Descriptor) error {
	if err := validDigest(d.Digest); err != nil {
		return err
	}
	if d.Size < 0 {
		return fmt.Errorf("blob %s has a size of %d bytes", d.Digest, d.Size)
	}
	return nil
}

// expect begins the downloads.
func (r *remoteBlobs) expect(layers []Layer) {
	queue := make(chan *download, len(layers))
	for _, l := range layers {
		d := ocispec.Descriptor{MediaType: l.MediaType, Digest: l.Blob, Size: l.BlobSize}
		if _, ok := r.await[d.Digest]; ok {
			continue
		}
		w := &download{desc: d, done: make(chan struct{})}
		r.await[d.Digest] = w
		if w.err = checkRemote(d); w.err == nil {
			var have, whole bool
			if have, w.err = r.t.pin(d.Digest); have {
				w.here = r.t.blobs[d.Digest]
				whole = r.t.s.layerDir(l) != "" && checkFile(w.here, d) == nil
			}
			if !whole && w.err == nil {
				queue <- w
				continue
			}
		}
		close(w.done)
	}
	close(queue)
	for range min(parallelBlobs, len(queue)) {
		r.wg.Go(func() {
			for w := range queue {
				if w.err = r.fetch(w); w.err != nil {
					r.stop(w.err)
				}
				close(w.done)
			}
		})
	}
}

// checkFile holds the size of a blob's file against its descriptor.
func checkFile(path string, d ocispec.Descriptor) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	return checkSize(ocispec.Descriptor{Size: st.Size()}, d)
}

// fetch downloads one blob into the session's directory, unless it is there and whole.
func (r *remoteBlobs) fetch(w *download) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if w.here != "" {
		if got, err := fileDigest(r.ctx, w.here); err == nil && got == w.desc.Digest {
			return nil
		}
	}
	rc, err := r.src.Blob(r.ctx, w.desc)
	if err != nil {
		return fmt.Errorf("blob %s: %w", w.desc.Digest, err)
	}
	defer rc.Close()
	if w.blob, err = r.t.newBlob(); err != nil {
		return err
	}
	in := io.Reader(rc)
	if r.track != nil {
		in = r.track(w.desc, in)
	}
	// One byte more tells a blob that is too long, and no endless one fills the disk.
	in = io.LimitReader(in, w.desc.Size+1)
	_, err = io.Copy(w.blob, untilFailure{in, w.blob})
	if werr := w.blob.wait(); werr != nil {
		return fmt.Errorf("stage blob: %w", werr)
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", w.desc.Digest, err)
	}
	if w.blob.size > w.desc.Size {
		return fmt.Errorf("blob %s is longer than the %d bytes that its descriptor says", w.desc.Digest, w.desc.Size)
	}
	return nil
}

// untilFailure ends what is read when it cannot be written any more.
type untilFailure struct {
	r io.Reader
	w *blobWriter
}

func (u untilFailure) Read(p []byte) (int, error) {
	if u.w.failed.Load() {
		return 0, io.EOF // the writer says what failed
	}
	return u.r.Read(p)
}

func (r *remoteBlobs) stage(d ocispec.Descriptor) error {
	if data, ok := r.docs[d.Digest]; ok {
		_, err := r.t.stageDocument(data, d.MediaType)
		return err
	}
	w := r.await[d.Digest]
	select {
	case <-w.done:
	case <-r.ctx.Done():
		return context.Cause(r.ctx)
	}
	if w.err != nil {
		return w.err
	}
	if w.blob != nil {
		if _, err := w.blob.finish(d.Digest, d.MediaType); err != nil {
			return err
		}
		w.blob = nil // it may be twice in one image
	}
	return checkFile(r.t.blobs[d.Digest], d)
}
