package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"mica/internal/imageref"
)

// notFound says what a registry does not have.
type notFound struct{ what, name string }

func (e *notFound) Error() string { return "no " + e.what + " " + e.name }

// missing names what an error of the library says is not there.
func missing(what, name string, err error) error {
	var response *errcode.ErrorResponse
	if errors.Is(err, errdef.ErrNotFound) || errors.As(err, &response) && response.StatusCode == http.StatusNotFound {
		return &notFound{what, name}
	}
	return err
}

// denied tells whether a registry knows who asks, or wants to, and says no.
func denied(err error) bool {
	var response *errcode.ErrorResponse
	return errors.As(err, &response) && (response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusForbidden)
}

// explain turns what went wrong with a place into one line that says what to do.
func (p place) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	var absent *notFound
	var response *errcode.ErrorResponse
	switch {
	case errors.As(err, &absent):
		return fmt.Errorf("%s has %w", p.Registry, absent)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return fmt.Errorf("%s wants to know who asks: log in with %s", p.Registry, p.login())
	case errors.As(err, &response):
		return p.explainResponse(response)
	}
	return explainNetwork(p.Registry, err)
}

// login is the command that logs in.
func (p place) login() string {
	if p.Registry == imageref.Hub {
		return `"mica login"`
	}
	return fmt.Sprintf(`"mica login %s"`, p.Registry)
}

// maxSaid is how much is shown of what a registry says.
const maxSaid = 300

func (p place) explainResponse(r *errcode.ErrorResponse) error {
	said := ""
	if len(r.Errors) > 0 {
		said = r.Errors.Error()
		said = ": " + said[:min(len(said), maxSaid)]
	}
	switch r.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		// Who may not see a repository is not told whether there is one.
		return fmt.Errorf("%s denies access to %s: there is none, or it takes %s%s", p.Registry, p.Repository, p.login(), said)
	case http.StatusTooManyRequests:
		return fmt.Errorf("%s limits how often it is asked (status 429): try again later, or with %s for a higher limit%s", p.Registry, p.login(), said)
	}
	return fmt.Errorf("%s answers with status %d, %s%s", p.Registry, r.StatusCode, http.StatusText(r.StatusCode), said)
}

func explainNetwork(host string, err error) error {
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &dns):
		return fmt.Errorf("cannot find the host %s: %s; this machine may be offline", dns.Name, dns.Err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s refuses the connection: nothing listens there", host)
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%s speaks HTTP only; allow that with --tls-verify=false, or by insecure=true in registries.conf", host)
	case isAlert(err):
		return fmt.Errorf("%s refuses to go on (%w): if it wants a certificate of yours, put this and its key as client.cert and client.key into ~/.config/containers/certs.d/%s", host, inner(err), host)
	case isTLS(err):
		return fmt.Errorf("%s cannot be trusted: %w; put its authority's certificate into ~/.config/containers/certs.d/%s/ca.crt, or use --tls-verify=false", host, inner(err), host)
	case errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("cannot reach %s: %w; this machine may be offline", host, inner(op.Err))
	case isCut(err):
		return fmt.Errorf("the connection to %s was cut", host)
	}
	return fmt.Errorf("%s: %w", host, err)
}

func isTLS(err error) bool {
	var untrusted *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var record tls.RecordHeaderError
	return errors.As(err, &untrusted) || errors.As(err, &authority) || errors.As(err, &record) ||
		isAlert(err)
}

// isAlert tells whether a host itself ended a connection of TLS and said why.
func isAlert(err error) bool { return strings.Contains(err.Error(), "remote error: tls:") }

// inner is the error at the bottom: what stands around it names a request, which says nothing to the user.
func inner(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
