package build

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"mica/layerstore"
	"mica/run/archive"
)

// Fetched is a context that may have come from elsewhere.
type Fetched struct {
	Path       string // of its directory
	Remote     bool   // it was fetched
	Dockerfile []byte // there is no more than this; nil: there is
}

// FetchContext finds the context that the command line names: a directory, "-" for what stdin has, or the address of
// a git repository, of an archive or of a Dockerfile. What is fetched goes into the directory temp.
func FetchContext(ctx context.Context, where string, stdin io.Reader, temp string) (*Fetched, error) {
	switch {
	case where == "-":
		return unpackContext(stdin, temp)
	case isGit(where):
		dir, err := cloneGit(ctx, where, temp, gitAccess{own: true}, false)
		return &Fetched{Path: dir, Remote: true}, err
	case isURL(where):
		f, err := fetch(ctx, where, temp)
		if err != nil {
			return nil, fmt.Errorf("fetch %s: %w", where, err)
		}
		content, err := os.Open(f.path)
		if err != nil {
			return nil, err
		}
		defer content.Close()
		return unpackContext(content, temp)
	}
	fi, err := os.Stat(where)
	if err == nil && !fi.IsDir() {
		err = fmt.Errorf("%s is no directory: give the directory with the files, and the Dockerfile with -f", where)
	}
	return &Fetched{Path: where}, err
}

// unpackContext reads a context that is an archive, or a Dockerfile alone.
func unpackContext(r io.Reader, temp string) (*Fetched, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	plain, stop, err := layerstore.Decompress(in)
	if err != nil {
		return nil, fmt.Errorf("read the context: %w", err)
	}
	defer stop()
	head := bufio.NewReaderSize(plain, 64<<10)
	start, err := head.Peek(1024)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the context: %w", err)
	}
	if !isTar(start) {
		data, err := io.ReadAll(head)
		if err == nil && len(data) == 0 {
			err = errors.New("the context is empty")
		}
		return &Fetched{Dockerfile: data, Remote: true}, err
	}
	dir, err := os.MkdirTemp(temp, "context-")
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	open := readable(head)
	defer open.Close()
	if err := archive.Unpack(open, root, "the context", false, false); err != nil {
		return nil, fmt.Errorf("unpack the context: %w", err)
	}
	return &Fetched{Path: filepath.Clean(dir), Remote: true}, nil
}

// readable is an archive in which the owner may read everything. What is unpacked belongs to the user, who has to.
func readable(r io.Reader) io.ReadCloser {
	out, w := io.Pipe()
	go func() {
		in, tw := tar.NewReader(r), tar.NewWriter(w)
		for {
			h, err := in.Next()
			if err == io.EOF {
				w.CloseWithError(tw.Close())
				return
			}
			if err == nil {
				if h.Mode |= 0o400; h.Typeflag == tar.TypeDir {
					h.Mode |= 0o500
				}
				h.Format = tar.FormatPAX
				err = tw.WriteHeader(h)
			}
			if err == nil {
				_, err = io.Copy(tw, in)
			}
			if err != nil {
				w.CloseWithError(err)
				return
			}
		}
	}()
	return out
}

// isTar tells whether what begins so is an archive.
func isTar(start []byte) bool {
	_, err := tar.NewReader(bytes.NewReader(start)).Next()
	return err == nil
}
