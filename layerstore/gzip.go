package layerstore

import (
	"bufio"
	"errors"
	"io"

	"github.com/klauspost/compress/gzip"
)

// errTrailing says that an archive is whole, and that it is not all there is.
var errTrailing = errors.New("bytes follow the end of the compressed archive")

// gzipReader reads the members of a gzip stream one by one: the library's own
// way takes whatever follows the last for a member that is cut off.
type gzipReader struct {
	src *bufio.Reader
	z   *gzip.Reader
}

func newGzipReader(r io.Reader) (*gzipReader, error) {
	src := buffered(r)
	z, err := gzip.NewReader(src)
	if err != nil {
		return nil, err
	}
	z.Multistream(false)
	return &gzipReader{src, z}, nil
}

func (g *gzipReader) Read(p []byte) (int, error) {
	for {
		n, err := g.z.Read(p)
		if err != io.EOF {
			return n, err
		}
		if n > 0 {
			return n, nil // the end comes again
		}
		magic, err := g.src.Peek(2)
		switch {
		case len(magic) == 0:
			return 0, err
		case string(magic) != "\x1f\x8b":
			return 0, errTrailing
		}
		if err := g.z.Reset(g.src); err != nil {
			return 0, err
		}
		g.z.Multistream(false)
	}
}
