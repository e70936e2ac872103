package registry

import (
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// TestRestarted waits for a registry that was there and refuses a connection then, and for no other.
func TestRestarted(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	var results []error
	asked := 0
	client := http.Client{Transport: retrying(roundTrip(func(*http.Request) (*http.Response, error) {
		err := results[asked]
		if asked++; err != nil {
			return nil, err
		}
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	}))}
	for _, c := range []struct {
		results []error
		asked   int
		want    error
	}{
		{[]error{refused}, 1, syscall.ECONNREFUSED},
		{[]error{syscall.ECONNRESET, refused, nil}, 3, nil},
		{[]error{refused, nil}, 2, nil},
		{[]error{errors.ErrUnsupported}, 1, errors.ErrUnsupported},
	} {
		results, asked = c.results, 0
		resp, err := client.Get("http://host.example")
		if err == nil {
			resp.Body.Close()
		}
		if !errors.Is(err, c.want) || asked != c.asked {
			t.Errorf("%v: error %v after %d requests", c.results, err, asked)
		}
	}
}
