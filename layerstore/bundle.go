package layerstore

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"mica/internal/imageref"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// bundle is the set of files in an archive of images, or in a directory.
type bundle interface {
	// has tells whether there is a regular file of this name.
	has(name string) bool
	// open opens a file; the error is [fs.ErrNotExist] if there is none.
	open(name string) (io.ReadCloser, error)
	// stage makes a file a blob of the session. want is its digest; empty accepts any.
	stage(name string, want digest.Digest) (ocispec.Descriptor, error)
	close()
}

// readBundleFile reads a small file whole.
func readBundleFile(b bundle, name string) ([]byte, error) {
	f, err := b.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxDocument {
		return nil, fmt.Errorf("%s is larger than the %d MiB that a document may have", name, maxDocument>>20)
	}
	return data, nil
}

// dirBundle is a directory; no symlink leads out of it.
type dirBundle struct {
	t    *session
	ctx  context.Context
	root *os.Root
}

func (t *session) openDirBundle(ctx context.Context, dir string) (bundle, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &dirBundle{t, ctx, root}, nil
}

func (b *dirBundle) has(name string) bool {
	st, err := b.root.Stat(name)
	return err == nil && st.Mode().IsRegular()
}

func (b *dirBundle) open(name string) (io.ReadCloser, error) {
	// Without O_NONBLOCK a FIFO would wait for a writer.
	f, err := b.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		_ = f.Close()
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	return f, nil
}

func (b *dirBundle) stage(name string, want digest.Digest) (ocispec.Descriptor, error) {
	f, err := b.open(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer f.Close()
	w, err := b.t.newBlob()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if _, err := io.Copy(w, contextReader{b.ctx, f}); err != nil {
		_ = w.wait()
		return ocispec.Descriptor{}, fmt.Errorf("read %s: %w", name, err)
	}
	return w.finish(want, "")
}

func (b *dirBundle) close() { _ = b.root.Close() }

// tarBundle is an archive that has been read through: its files lie in the
// session's directory under names of the session's own.
type tarBundle struct {
	t     *session
	files map[string]bundleFile
	links map[string]string // symlinks and hard links, by the name that they lead to
}

type bundleFile struct {
	path   string
	digest digest.Digest
	size   int64
}

// maxBundleEntries bounds the files of an archive of images, which has a
// few for each layer.
const maxBundleEntries = 100_000

// openTarBundle reads an archive, of any compression, into the session.
func (t *session) openTarBundle(ctx context.Context, r io.Reader) (bundle, error) {
	br := buffered(contextReader{ctx, r})
	kind, err := detect(br)
	if err != nil {
		return nil, readError(err)
	}
	plainTar, closeDecoder, err := kind.decompress(br)
	if err != nil {
		return nil, readError(err)
	}
	defer closeDecoder()
	b := &tarBundle{t: t, files: make(map[string]bundleFile), links: make(map[string]string)}
	tr := tar.NewReader(plainTar)
	for n := 0; ; n++ {
		h, err := tr.Next()
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, readError(err)
		}
		if n >= maxBundleEntries {
			return nil, fmt.Errorf("the archive has more than %d entries", maxBundleEntries)
		}
		if err := b.add(h, tr); err != nil {
			return nil, fmt.Errorf("entry %q: %w", clip(h.Name), err)
		}
	}
}

func (b *tarBundle) add(h *tar.Header, r io.Reader) error {
	name := path.Clean("/" + h.Name)[1:]
	delete(b.files, name)
	delete(b.links, name)
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeSymlink:
		b.links[name] = path.Join(path.Dir("/"+name), h.Linkname)[1:]
		return nil
	case tar.TypeLink:
		b.links[name] = path.Clean("/" + h.Linkname)[1:]
		return nil
	default:
		return nil // directories, and what no image consists of
	}
	f, err := b.t.stageFile(r, h.Size)
	if err != nil {
		return err
	}
	b.files[name] = f
	return nil
}

// stageFile copies one entry into the session's directory and hashes it.
func (t *session) stageFile(r io.Reader, size int64) (bundleFile, error) {
	if size <= 1<<20 {
		data, err := io.ReadAll(r)
		if err != nil {
			return bundleFile{}, readError(err)
		}
		path := t.newPath("file")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return bundleFile{}, err
		}
		return bundleFile{path, digest.FromBytes(data), int64(len(data))}, nil
	}
	w, err := t.newBlob()
	if err != nil {
		return bundleFile{}, err
	}
	_, err = io.Copy(w, r)
	werr := w.wait()
	if err != nil {
		return bundleFile{}, readError(err)
	}
	if werr != nil {
		return bundleFile{}, werr
	}
	return bundleFile{w.path, digest.NewDigest(digest.SHA256, w.hash), w.size}, nil
}

// find follows the links of the archive, within the archive.
func (b *tarBundle) find(name string) (bundleFile, error) {
	at := path.Clean("/" + name)[1:]
	for range maxSymlinks {
		if f, ok := b.files[at]; ok {
			return f, nil
		}
		next, ok := b.links[at]
		if !ok {
			break
		}
		at = next
	}
	return bundleFile{}, fmt.Errorf("%s is not in the archive: %w", name, fs.ErrNotExist)
}

func (b *tarBundle) has(name string) bool {
	_, err := b.find(name)
	return err == nil
}

func (b *tarBundle) open(name string) (io.ReadCloser, error) {
	f, err := b.find(name)
	if err != nil {
		return nil, err
	}
	return os.Open(f.path)
}

func (b *tarBundle) stage(name string, want digest.Digest) (ocispec.Descriptor, error) {
	f, err := b.find(name)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if want != "" && f.digest != want {
		return ocispec.Descriptor{}, fmt.Errorf("blob %s is corrupt: its content has digest %s", want, f.digest)
	}
	b.t.blobs[f.digest] = f.path
	return ocispec.Descriptor{Digest: f.digest, Size: f.size}, nil
}

func (b *tarBundle) close() {}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// layerMediaType tells the media type of a layer's archive by its first bytes.
func layerMediaType(b bundle, name string) (string, error) {
	f, err := b.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, maxMagic)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	head = head[:n]
	for _, m := range magics {
		if !bytes.HasPrefix(head, m.bytes) {
			continue
		}
		switch m.c {
		case gzipped:
			return ocispec.MediaTypeImageLayerGzip, nil
		case zstandard:
			return ocispec.MediaTypeImageLayerZstd, nil
		}
		return "", fmt.Errorf("layer %s is compressed in a way that layers of images cannot be", name)
	}
	return ocispec.MediaTypeImageLayer, nil
}

// hexOf finds the digest that a file's name states, like HEX.json or
// blobs/sha256/HEX; empty if it states none.
func hexOf(name string) digest.Digest {
	base := strings.TrimSuffix(path.Base(name), ".json")
	if len(base) == 64 && imageref.CanBeID(base) {
		return digest.NewDigestFromEncoded(digest.SHA256, base)
	}
	return ""
}
