package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// Pack writes a file or directory of the host as a tar stream in which it
// is called name; with the empty name a directory's content stands at the top.
func Pack(w io.Writer, src, name string) error {
	tw := tar.NewWriter(w)
	links := make(Links)
	err := filepath.WalkDir(src, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, p)
		if err != nil {
			return err
		}
		entry := path.Join(name, filepath.ToSlash(rel))
		if entry == "." {
			return nil
		}
		return packEntry(tw, p, entry, links)
	})
	if err != nil {
		return err
	}
	return tw.Close()
}

// Links are the names in an archive of files of the host that have several.
type Links map[[2]uint64]string

// Seen tells under which name a file is in the archive already; if it is not, its name is noted.
func (l Links) Seen(fi fs.FileInfo, name string) (first string, ok bool) {
	st, isStat := fi.Sys().(*syscall.Stat_t)
	if !isStat || fi.IsDir() || st.Nlink < 2 {
		return "", false
	}
	id := [2]uint64{uint64(st.Dev), st.Ino}
	if first, ok = l[id]; !ok {
		l[id] = name
	}
	return first, ok
}

func packEntry(tw *tar.Writer, p, name string, links Links) error {
	fi, err := os.Lstat(p)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	h, err := hostHeader(fi, name, links, func() (string, error) { return os.Readlink(p) })
	if err != nil || h == nil {
		return err
	}
	if h.Typeflag != tar.TypeReg {
		return tw.WriteHeader(h)
	}
	f, err := os.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	return packContent(tw, h, f)
}

// hostHeader describes a file of the host as an entry of an archive, nil for a socket.
func hostHeader(fi fs.FileInfo, name string, links Links, readlink func() (string, error)) (*tar.Header, error) {
	if fi.Mode()&fs.ModeSocket != 0 {
		return nil, nil
	}
	target := ""
	if fi.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = readlink(); err != nil {
			return nil, err
		}
	}
	h, err := tar.FileInfoHeader(fi, target)
	if err != nil {
		return nil, err
	}
	h.Name, h.Format, h.Uname, h.Gname = name, tar.FormatPAX, "", ""
	if fi.IsDir() {
		h.Name += "/"
	} else if first, ok := links.Seen(fi, name); ok {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
	}
	return h, nil
}

// packContent writes an entry with the content of f.
func packContent(tw *tar.Writer, h *tar.Header, f *os.File) error {
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if _, err := io.CopyN(tw, f, h.Size); err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return nil
}

// NotedReader keeps the error of a reader, for which a writer's own may be taken otherwise.
type NotedReader struct {
	Reader io.Reader
	Err    error
}

// Read reads, and keeps the error.
func (n *NotedReader) Read(p []byte) (int, error) {
	got, err := n.Reader.Read(p)
	if err != nil && err != io.EOF && n.Err == nil {
		n.Err = err
	}
	return got, err
}
