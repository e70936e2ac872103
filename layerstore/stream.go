package layerstore

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/ulikunitz/xz"
)

// compression is how a layer's archive is packed.
type compression uint8

const (
	plain compression = iota
	gzipped
	zstandard
	xzipped
	bzipped
)

var magics = []struct {
	c     compression
	bytes []byte
}{
	{gzipped, []byte{0x1f, 0x8b, 0x08}},
	{zstandard, []byte{0x28, 0xb5, 0x2f, 0xfd}},
	{xzipped, []byte{0xfd, '7', 'z', 'X', 'Z', 0}},
	{bzipped, []byte("BZh")},
}

// maxMagic is the length of the longest of the magics.
const maxMagic = 6

// detect tells the compression by the first bytes.
func detect(br *bufio.Reader) (compression, error) {
	head, err := br.Peek(maxMagic)
	if err != nil && err != io.EOF {
		return plain, err
	}
	if len(head) == 0 {
		return plain, errors.New("the archive is empty")
	}
	for _, m := range magics {
		if bytes.HasPrefix(head, m.bytes) {
			return m.c, nil
		}
	}
	return plain, nil
}

// decompress unpacks r. close frees what the decoder holds.
func (c compression) decompress(r io.Reader) (out io.Reader, close func(), err error) {
	none := func() {}
	switch c {
	case gzipped:
		z, err := newGzipReader(r)
		return z, none, err
	case zstandard:
		// The window bounds what a hostile header makes the decoder allocate.
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, none, err
		}
		return z, z.Close, nil
	case xzipped:
		z, err := xz.ReaderConfig{DictCap: 1 << 20}.NewReader(r)
		return z, none, err
	case bzipped:
		return bzip2.NewReader(r), none, nil
	}
	return r, none, nil
}

// Decompress gives the plain content of an archive of whatever compression, and what frees the decoder.
func Decompress(r io.Reader) (out io.Reader, close func(), err error) {
	br := buffered(r)
	kind, err := detect(br)
	if err != nil {
		return nil, nil, err
	}
	return kind.decompress(br)
}

// layerStream reads one layer's archive, of any compression: the reader gives the
// plain tar while the blob to store and both digests come about on the way.
type layerStream struct {
	ctx   context.Context
	tar   io.Reader // what Read gives
	src   io.Reader // the archive as it comes, for what follows the compressed part
	hash  hash.Hash // of the plain tar, if that isn't what blob hashes
	blob  *blobWriter
	kind  compression
	ahead *aheadReader
	close func()
}

// newLayerStream begins to read r. With store set the archive becomes a staged
// blob: gzip as it is, everything else as plain tar.
func (t *session) newLayerStream(ctx context.Context, r io.Reader, store bool) (*layerStream, error) {
	br := buffered(r)
	kind, err := detect(br)
	if err != nil {
		return nil, readError(err)
	}
	l := &layerStream{ctx: ctx, kind: kind, src: br, close: func() {}}
	if store {
		if l.blob, err = t.newBlob(); err != nil {
			return nil, err
		}
		if kind == plain || kind == gzipped {
			l.src = io.TeeReader(br, l.blob)
		}
	}
	l.tar = l.src
	if kind != plain {
		z, closeDecoder, err := kind.decompress(buffered(l.src))
		if err != nil {
			l.abandon()
			return nil, readError(err)
		}
		l.ahead = newAheadReader(z)
		l.tar, l.close = l.ahead, closeDecoder
	}
	if store && kind != plain && kind != gzipped {
		l.tar = io.TeeReader(l.tar, l.blob)
		return l, nil
	}
	if !store || kind == gzipped {
		l.hash = sha256.New()
		l.tar = io.TeeReader(l.tar, l.hash)
	}
	return l, nil
}

func (l *layerStream) Read(p []byte) (int, error) {
	if err := l.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := l.tar.Read(p)
	if err != nil && err != io.EOF {
		err = readError(err)
	}
	return n, err
}

// finish reads what follows the end of the tar, which the digests cover too,
// and registers the blob.
func (l *layerStream) finish() (diffID digest.Digest, blob ocispec.Descriptor, err error) {
	defer l.abandon()
	if _, err := io.Copy(io.Discard, l); err != nil {
		return "", blob, err
	}
	if l.ahead != nil {
		l.ahead.stop()
		if n, err := io.Copy(io.Discard, l.src); err != nil {
			return "", blob, readError(err)
		} else if n > 0 && l.kind != gzipped && l.kind != zstandard {
			return "", blob, errTrailing
		}
	}
	if l.blob != nil {
		mediaType := ocispec.MediaTypeImageLayer
		if l.kind == gzipped {
			mediaType = ocispec.MediaTypeImageLayerGzip
		}
		if blob, err = l.blob.finish("", mediaType); err != nil {
			return "", blob, err
		}
		diffID = blob.Digest
	}
	if l.hash != nil {
		diffID = digest.NewDigest(digest.SHA256, l.hash)
	}
	return diffID, blob, nil
}

// abandon frees what the stream holds; after finish it does nothing.
func (l *layerStream) abandon() {
	if l.ahead != nil {
		l.ahead.stop()
	}
	l.close()
	l.close = func() {}
	if l.blob != nil {
		_ = l.blob.wait()
	}
}

// readError turns what the readers of archives say into one clear line.
func readError(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the archive is truncated")
	case errors.Is(err, errTrailing):
		return errTrailing
	case errors.Is(err, tar.ErrHeader):
		return errors.New("this is not a tar archive, plain or compressed with gzip, zstd, xz or bzip2, or it is corrupt")
	case errors.Is(err, tar.ErrFieldTooLong):
		return errors.New("an entry's header is longer than 1 MiB")
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.Is(err, zstd.ErrMagicMismatch),
		errors.Is(err, zstd.ErrCRCMismatch):
		return fmt.Errorf("the compressed archive is corrupt: %w", err)
	}
	return fmt.Errorf("read archive: %w", err)
}

// archiveSize reads an archive for the bytes of the files in it.
func archiveSize(r io.Reader) (int64, error) {
	var size int64
	br := buffered(r)
	kind, err := detect(br)
	if err != nil {
		return 0, readError(err)
	}
	z, closeDecoder, err := kind.decompress(br)
	if err != nil {
		return 0, readError(err)
	}
	defer closeDecoder()
	tr := tar.NewReader(z)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return size, nil
		}
		if err != nil {
			return 0, readError(err)
		}
		size += h.Size
	}
}
