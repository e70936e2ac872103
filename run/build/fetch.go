package build

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// fetched is a file from the network.
type fetched struct {
	path string // where it is now
	name string // what it is called
	size int64
	time time.Time // that the server says; zero: none
}

// fetchTime bounds the wait for a server's answer.
const fetchTime = time.Minute

// fetch loads a file from the network into a directory.
func fetch(ctx context.Context, address, dir string) (_ *fetched, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = fetchTime
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server says %s", resp.Status)
	}
	out, err := os.CreateTemp(dir, "fetched-")
	if err != nil {
		return nil, err
	}
	defer out.Close()
	f := &fetched{path: out.Name(), name: urlName(address, resp.Request.URL)}
	if f.size, err = io.Copy(out, resp.Body); err != nil {
		return nil, err
	}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		f.time = t
	}
	return f, nil
}

// urlName is what a file from the network is called: as its address has it, or the one that led to.
func urlName(address string, final *url.URL) string {
	if u, err := url.Parse(address); err == nil {
		if name := lastName(u.Path); name != "" {
			return name
		}
	}
	return cmp.Or(lastName(final.Path), "index.html")
}

// lastName is the last part of a path that can be a file's name, empty if there is none.
func lastName(p string) string {
	name := p[strings.LastIndexByte(p, '/')+1:]
	if name == "." || name == ".." {
		return ""
	}
	return name
}

// verify holds the file against the digest that the user names.
func (f *fetched) verify(checksum string) error {
	want, err := digest.Parse(checksum)
	if err != nil {
		return fmt.Errorf("--checksum=%s: want one such as sha256:HEX", checksum)
	}
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer in.Close()
	got, err := want.Algorithm().FromReader(in)
	if err == nil && got != want {
		err = fmt.Errorf("its digest is %s, not %s", got, want)
	}
	return err
}

func (f *fetched) item() item {
	return item{source: f.name, name: f.name, pack: func(_ context.Context, fn entryFunc) error {
		in, err := os.Open(f.path)
		if err != nil {
			return err
		}
		defer in.Close()
		return fn(&tar.Header{Typeflag: tar.TypeReg, Name: ".", Mode: 0o600, Size: f.size, ModTime: f.time}, in)
	}}
}
