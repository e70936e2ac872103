package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"mica/internal/version"
)

// How long a host may take. What is under way has no limit: a blob takes as long as it takes.
const (
	dialTimeout   = 10 * time.Second
	answerTimeout = 5 * time.Minute // a registry may copy a blob before it says that it has it
)

// conn is a place that is spoken with.
type conn struct {
	place
	repo   *remote.Repository
	client *auth.Client
}

// connect prepares to speak with a place. Where HTTP is allowed it asks the host which of HTTPS and HTTP it speaks.
func (p place) connect(ctx context.Context, opt Options) (*conn, error) {
	transport, plain, err := p.reach(ctx, opt)
	if err != nil {
		return nil, err
	}
	client := newClient(p.Registry, transport)
	if client.Credential, err = p.credential(opt); err != nil {
		return nil, err
	}
	c := &conn{place: p, client: client, repo: &remote.Repository{Reference: p.Reference, PlainHTTP: plain, Client: client, MaxMetadataBytes: MaxManifest}}
	// What it would be set for, lists of what refers to an image, is no business of mica's.
	_ = c.repo.SetReferrersCapability(true)
	return c, nil
}

// reach makes the transport to a host, and finds out whether it is to be plain HTTP.
func (p place) reach(ctx context.Context, opt Options) (t http.RoundTripper, plain bool, err error) {
	insecure, plainAllowed := p.insecure, p.insecure || isLoopback(p.Registry)
	if opt.TLSVerify != nil {
		insecure, plainAllowed = !*opt.TLSVerify, !*opt.TLSVerify
	}
	cfg, err := tlsConfig(p.Registry, insecure)
	if err != nil {
		return nil, false, err
	}
	base := newTransport(cfg)
	if plainAllowed {
		if plain, err = speaksHTTP(ctx, p.Registry, base); err != nil {
			return nil, false, err
		}
	}
	return retrying(answers{base}), plain, nil
}

func newTransport(cfg *tls.Config) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone() // with the proxies of the environment
	t.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	t.TLSClientConfig = cfg
	t.ResponseHeaderTimeout = answerTimeout
	t.MaxIdleConnsPerHost = 4
	return t
}

func newClient(host string, transport http.RoundTripper) *auth.Client {
	c := &auth.Client{Client: &http.Client{Transport: transport}, Cache: auth.NewCache()}
	c.SetUserAgent("mica/" + version.Short())
	if isLoopback(host) {
		c.BlockedRealmPrefixes = []netip.Prefix{} // a service beside it may give the tokens
	}
	return c
}

// speaksHTTP tells whether a host speaks HTTP only. An answer of any kind is one.
func speaksHTTP(ctx context.Context, host string, t http.RoundTripper) (bool, error) {
	reg, err := remote.NewRegistry(host)
	if err != nil {
		return false, err
	}
	reg.Client = &http.Client{Transport: t}
	err = reg.Ping(ctx)
	if answered(err) {
		return false, nil
	}
	var noTLS tls.RecordHeaderError
	if isTLS(err) && !errors.As(err, &noTLS) || ctx.Err() != nil {
		return false, err
	}
	reg.PlainHTTP = true
	if plainErr := reg.Ping(ctx); !answered(plainErr) {
		return false, plainErr
	}
	return true, nil
}

func answered(err error) bool {
	var response *errcode.ErrorResponse
	return err == nil || errors.As(err, &response) || errors.Is(err, errdef.ErrNotFound)
}

// isLoopback tells whether a host, with or without a port, is this machine by its name or address.
func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
