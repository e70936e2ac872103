// Package registry speaks with registries of images: it finds the hosts that
// stand for a name, with their certificates and credentials, and reads and
// writes what a repository has. The protocol is the library's (oras-go).
//
// What the user and the machine configure is read where Podman and Docker
// read it:
//
//	registries.conf  mirrors, other places, what is blocked, who may speak HTTP (config.go)
//	certs.d          certificates by host (certs.go)
//	auth.json, config.json  credentials, or the helpers that keep them (keyring.go)
package registry

import (
	"context"
	"fmt"
	"os"
	"sync"

	"oras.land/oras-go/v2/registry"

	"mica/internal/imageref"
)

// Options say how registries are reached, and as whom.
type Options struct {
	// TLSVerify false allows HTTP and unknown certificates, true neither; nil leaves it to registries.conf, and
	// allows HTTP on this machine itself.
	TLSVerify *bool
	AuthFile  string // in place of the usual files of credentials
	Creds     string // USER:PASSWORD, in place of any file
}

// Repository is one repository: the place that its name stands for, and the mirrors of it. Its methods may be called by
// several goroutines.
type Repository struct {
	opt    Options
	places []place // immutable; in the order in which they are tried, the last is the one that is written to

	mu     sync.Mutex // guards chosen, and is held while it is chosen
	chosen *conn      // nil until one has answered
}

// Open finds the places of a repository. It speaks with nobody yet.
func Open(ref imageref.Ref, opt Options) (*Repository, error) {
	if opt.AuthFile != "" { // which a user would be nobody without
		if _, err := os.Stat(opt.AuthFile); err != nil {
			return nil, fmt.Errorf("read credentials: %w", err)
		}
	}
	conf, err := readConfig()
	if err != nil {
		return nil, err
	}
	places, err := conf.places(ref)
	if err != nil {
		return nil, err
	}
	return &Repository{opt: opt, places: places}, nil
}

// conn is the place that has answered before, or else the one that is written to.
func (r *Repository) conn(ctx context.Context) (*conn, error) {
	return choose(ctx, r, r.places[len(r.places)-1:], func(c *conn) (*conn, error) { return c, nil })
}

// choose does something at the place that has answered before, or else at the first of several where it succeeds, which
// is the one for all that follows. The error is that of the last.
func choose[T any](ctx context.Context, r *Repository, places []place, try func(*conn) (T, error)) (T, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.chosen != nil {
		got, err := try(r.chosen)
		return got, r.chosen.explain(err)
	}
	var got T
	var err error
	for _, p := range places {
		var c *conn
		if c, err = p.connect(ctx, r.opt); err == nil {
			if got, err = try(c); err == nil {
				r.chosen = c
				return got, nil
			}
		}
		if err = p.explain(err); ctx.Err() != nil {
			break
		}
	}
	return got, err
}

// place is one repository on one host.
type place struct {
	registry.Reference      // without a tag or digest
	insecure           bool // HTTP and unknown certificates are allowed
	mirror             bool
	only               string // "digest" or "tag" for a mirror that has only these
}
