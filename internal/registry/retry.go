package registry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"oras.land/oras-go/v2/registry/remote/retry"
)

// retrying asks again what fails for the moment. A host that cannot be reached is not asked again, so that a machine without a
// network is told at once; but one that was there before may just be starting anew.
func retrying(base http.RoundTripper) http.RoundTripper {
	var present atomic.Bool
	policy := &retry.GenericPolicy{
		Retryable: func(resp *http.Response, err error) (bool, error) {
			if err != nil {
				if isCut(err) {
					present.Store(true)
				}
				return isCut(err) || present.Load() && errors.Is(err, syscall.ECONNREFUSED), nil
			}
			present.Store(true)
			return isBusy(resp), nil
		},
		Backoff: retry.ExponentialBackoff(firstWait, 2, 0.1), MinWait: firstWait / 2, MaxWait: maxWait, MaxRetry: maxTries,
	}
	return &retry.Transport{Base: base, Policy: func() retry.Policy { return policy }}
}

// isBusy tells whether a registry has no answer now but will have one soon.
func isBusy(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	case http.StatusTooManyRequests: // a limit per hour is not waited for
		after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		return err == nil && after <= int(maxWait/time.Second)
	}
	return false
}

const (
	firstWait = 100 * time.Millisecond
	maxWait   = 5 * time.Second
	maxTries  = 4
)

// isCut tells whether a connection broke that had been there.
func isCut(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
}

// again waits before a further try after err; false if there is to be none.
func again(ctx context.Context, try int, err error) bool {
	if try >= maxTries || !isCut(err) {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(firstWait << try):
		return true
	}
}

// resumed reads a blob on where its connection was cut.
type resumed struct {
	ctx  context.Context
	open func() (io.ReadCloser, error)
	rc   io.ReadCloser
	size int64 // of the blob, as it should be
	off  int64
	try  int // since something has come
}

func (r *resumed) Read(p []byte) (int, error) {
	for {
		n, err := r.rc.Read(p)
		if r.off += int64(n); n > 0 {
			r.try = 0
		}
		if err == io.EOF && r.off < r.size {
			err = io.ErrUnexpectedEOF
		}
		if err == nil || err == io.EOF || n > 0 {
			if err != io.EOF {
				err = nil // what is wrong shows at the next read
			}
			return n, err
		}
		if err = r.reopen(err); err != nil {
			return 0, err
		}
	}
}

// reopen opens the blob anew at the place where it was cut.
func (r *resumed) reopen(cut error) error {
	for again(r.ctx, r.try, cut) {
		r.try++
		rc, err := r.open()
		if err == nil {
			if err = skip(rc, r.off); err == nil {
				_ = r.rc.Close()
				r.rc = rc
				return nil
			}
			_ = rc.Close()
		}
		cut = err
	}
	if r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	return cut
}

// skip goes to an offset: by a request for the rest where the registry can, or else by reading.
func skip(rc io.Reader, off int64) error {
	if s, ok := rc.(io.Seeker); ok {
		if _, err := s.Seek(off, io.SeekStart); err == nil {
			return nil
		}
	}
	_, err := io.CopyN(io.Discard, rc, off)
	return err
}

func (r *resumed) Close() error { return r.rc.Close() }
