package registry

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// answers gives the library, which is stricter than registries are, answers in the form that it takes.
type answers struct{ base http.RoundTripper }

func (a answers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		knownFirst(resp.Header["Www-Authenticate"])
	case resp.StatusCode == http.StatusOK && resp.ContentLength < 0 && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/manifests/"):
		if err := measure(resp); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// knownFirst puts a way to log in that the library knows before all others: it looks at the first only.
func knownFirst(challenges []string) {
	i := slices.IndexFunc(challenges, func(text string) bool {
		scheme, _, _ := strings.Cut(text, " ")
		return strings.EqualFold(scheme, "Basic") || strings.EqualFold(scheme, "Bearer")
	})
	if i > 0 {
		challenges[0], challenges[i] = challenges[i], challenges[0]
	}
}

// measure reads a manifest, though not endlessly, that came in pieces or compressed, so that its size and digest are known.
func measure(resp *http.Response) error {
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifest+1))
	if err != nil {
		return err
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	if resp.Header.Get("Docker-Content-Digest") == "" {
		resp.Header.Set("Docker-Content-Digest", digest.FromBytes(data).String())
	}
	return nil
}
