package registrytest

import (
	"fmt"
	"net/http"
)

// The user that a registry with a lock knows.
const (
	User     = "user"
	Password = "se:cret"
)

const token = "a-token"

// Basic is a hook that lets only [User] in.
func Basic(w http.ResponseWriter, r *http.Request) bool {
	if user, password, _ := r.BasicAuth(); user == User && password == Password {
		return false
	}
	w.Header().Set("Www-Authenticate", `Basic realm="test"`)
	Fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return true
}

// Bearer is a hook that lets only those in who have a token, which it gives to [User].
func (r *Registry) Bearer(w http.ResponseWriter, req *http.Request) bool {
	if req.URL.Path == "/token" {
		if user, password, _ := req.BasicAuth(); user == User && password == Password {
			fmt.Fprintf(w, `{"token":%q}`, token)
		} else {
			Fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "who are you?")
		}
		return true
	}
	if req.Header.Get("Authorization") == "Bearer "+token {
		return false
	}
	w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:app:pull"`, r.URL))
	Fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return true
}
