package registry

import (
	"compress/gzip"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"mica/internal/imageref"
	"mica/internal/registrytest"
)

// atHome gives the test a home directory of its own, without any configuration, and tells where its files are.
func atHome(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	for _, name := range []string{"XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "CONTAINERS_REGISTRIES_CONF"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", home)
	return home
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func parse(t *testing.T, name string) imageref.Ref {
	t.Helper()
	ref, err := imageref.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// get reads the manifest of an image.
func get(t *testing.T, name string, opt Options) (string, error) {
	t.Helper()
	ref := parse(t, name)
	repo, err := Open(ref, opt)
	if err != nil {
		return "", err
	}
	_, data, err := repo.Manifest(context.Background(), ref.Reference())
	return string(data), err
}

// serving is a registry that has the image app.
func serving(t *testing.T, content string) *registrytest.Registry {
	t.Helper()
	reg := registrytest.New(t)
	reg.AddManifest("app", "latest", ocispec.MediaTypeImageManifest, []byte(content))
	return reg
}

// TestCredentials finds who asks in every place that says so.
func TestCredentials(t *testing.T) {
	const userAuth = "dXNlcjpzZTpjcmV0" // user:se:cret
	auths := func(key string) string { return `{"auths":{"` + key + `":{"auth":"` + userAuth + `"}}}` }
	for name, c := range map[string]struct {
		opt   Options
		env   string // NAME=VALUE below the home directory
		file  string // below the home directory
		key   string
		wrong bool
	}{
		"creds":           {opt: Options{Creds: "user:se:cret"}},
		"wrong creds":     {opt: Options{Creds: "user:other"}, wrong: true},
		"nobody":          {wrong: true},
		"named file":      {opt: Options{AuthFile: "own.json"}, file: "own.json", key: "HOST"},
		"variable":        {env: "REGISTRY_AUTH_FILE=var.json", file: "var.json", key: "HOST"},
		"runtime":         {env: "XDG_RUNTIME_DIR=run", file: "run/containers/auth.json", key: "HOST"},
		"configuration":   {file: ".config/containers/auth.json", key: "HOST"},
		"docker":          {file: ".docker/config.json", key: "HOST"},
		"docker URL":      {file: ".docker/config.json", key: "https://HOST/v1/"},
		"docker variable": {env: "DOCKER_CONFIG=d", file: "d/config.json", key: "HOST"},
		"repository":      {file: ".config/containers/auth.json", key: "HOST/app"},
		"other host":      {file: ".docker/config.json", key: "host.example", wrong: true},
		"file in the way": {opt: Options{AuthFile: "own.json"}, file: "own.json", key: "host.example", wrong: true},
	} {
		for _, scheme := range []string{"basic", "bearer"} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				home := atHome(t)
				reg := serving(t, "{}")
				reg.Hook = registrytest.Basic
				if scheme == "bearer" {
					reg.Hook = reg.Bearer
				}
				if c.file != "" {
					write(t, filepath.Join(home, c.file), auths(strings.ReplaceAll(c.key, "HOST", reg.Host())))
				}
				if variable, value, ok := strings.Cut(c.env, "="); ok {
					t.Setenv(variable, filepath.Join(home, value))
				}
				opt := c.opt
				if opt.AuthFile != "" {
					opt.AuthFile = filepath.Join(home, opt.AuthFile)
				}
				_, err := get(t, reg.Host()+"/app", opt)
				if (err != nil) != c.wrong {
					t.Errorf("error %v", err)
				}
				if err != nil && (!strings.Contains(err.Error(), "mica login "+reg.Host()) || strings.Contains(err.Error(), "\n")) {
					t.Errorf("error %v, want one line that says how to log in", err)
				}
			})
		}
	}
}

// TestChallenges logs in where a registry offers a way first that mica does not know.
func TestChallenges(t *testing.T) {
	atHome(t)
	reg := serving(t, "{}")
	reg.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		if user == registrytest.User && password == registrytest.Password {
			return false
		}
		w.Header()["Www-Authenticate"] = []string{"Negotiate", `Basic realm="test"`}
		registrytest.Fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		return true
	}
	creds := registrytest.User + ":" + registrytest.Password
	if _, err := get(t, reg.Host()+"/app", Options{Creds: creds}); err != nil {
		t.Error(err)
	}
}

// TestManifestOfUnknownSize reads one that comes in pieces, and one that comes compressed.
func TestManifestOfUnknownSize(t *testing.T) {
	atHome(t)
	const want = `{"a":"b"}`
	for name, write := range map[string]func(http.ResponseWriter){
		"pieces": func(w http.ResponseWriter) {
			_ = http.NewResponseController(w).Flush()
			_, _ = w.Write([]byte(want))
		},
		"gzip": func(w http.ResponseWriter) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write([]byte(want))
			_ = z.Close()
		},
	} {
		reg := registrytest.New(t)
		reg.Hook = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/" {
				return false
			}
			if r.Method != http.MethodGet {
				registrytest.Fail(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "GET only")
				return true
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			write(w)
			return true
		}
		if got, err := get(t, reg.Host()+"/app", Options{}); err != nil || got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// TestNoAuthFile: a file of credentials that is named is there.
func TestNoAuthFile(t *testing.T) {
	home := atHome(t)
	_, err := get(t, "host.example/app", Options{AuthFile: filepath.Join(home, "none.json")})
	if err == nil || !strings.Contains(err.Error(), "none.json: no such file or directory") {
		t.Errorf("error %v", err)
	}
}

// TestCredentialHelper asks the program that Docker's configuration names.
func TestCredentialHelper(t *testing.T) {
	home := atHome(t)
	reg := serving(t, "{}")
	reg.Hook = registrytest.Basic
	helper := filepath.Join(home, "docker-credential-test")
	write(t, helper, "#!/bin/sh\nread host\necho \"$1 $host\" >>"+home+"/calls\n[ $1 != get ] || echo '{\"Username\":\"user\",\"Secret\":\"se:cret\"}'\n")
	if err := os.Chmod(helper, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", home+":"+os.Getenv("PATH"))
	write(t, filepath.Join(home, ".docker/config.json"), `{"credHelpers":{"`+reg.Host()+`":"test"}}`)
	if _, err := get(t, reg.Host()+"/app", Options{}); err != nil {
		t.Fatal(err)
	}
	if calls, _ := os.ReadFile(home + "/calls"); string(calls) != "get "+reg.Host()+"\n" {
		t.Errorf("the helper was called so: %q", calls)
	}
}

// TestHelperFails says what a helper says, and which one is missing.
func TestHelperFails(t *testing.T) {
	home := atHome(t)
	reg := serving(t, "{}")
	reg.Hook = registrytest.Basic
	helper := filepath.Join(home, "docker-credential-test")
	write(t, helper, "#!/bin/sh\necho the keyring is locked\nexit 1\n")
	if err := os.Chmod(helper, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", home+":"+os.Getenv("PATH"))
	for name, want := range map[string]string{"test": "the keyring is locked", "none": "not found"} {
		write(t, filepath.Join(home, ".docker/config.json"), `{"credsStore":"`+name+`"}`)
		if _, err := get(t, reg.Host()+"/app", Options{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "docker-credential-"+name) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// TestSecretsStaySecret: what cannot be read is not quoted.
func TestSecretsStaySecret(t *testing.T) {
	home := atHome(t)
	reg := serving(t, "{}")
	reg.Hook = registrytest.Basic
	write(t, filepath.Join(home, ".docker/config.json"), `{"auths":{"`+reg.Host()+`":{"auth":"aHVudGVyMg=="}}}`) // hunter2, without a user
	_, err := get(t, reg.Host()+"/app", Options{})
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("error %v", err)
	}
}

// TestRedirect follows a registry to another host, and says nothing there of who asks.
func TestRedirect(t *testing.T) {
	atHome(t)
	other := registrytest.New(t)
	data := []byte("content")
	d := other.AddBlob("app", data)
	leaked := ""
	other.Hook = func(_ http.ResponseWriter, r *http.Request) bool {
		leaked += r.Header.Get("Authorization")
		return false
	}
	reg := serving(t, "{}")
	reg.Hook = func(w http.ResponseWriter, r *http.Request) bool {
		if registrytest.Basic(w, r) {
			return true
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, other.URL+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	ref := parse(t, reg.Host()+"/app")
	repo, err := Open(ref, Options{Creds: "user:se:cret"})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := repo.Manifest(context.Background(), "latest"); err != nil {
		t.Fatal(err)
	}
	rc, err := repo.Blob(context.Background(), ocispec.Descriptor{Digest: d, Size: int64(len(data))})
	if err != nil {
		t.Fatal(err)
	}
	rc.Close()
	if n := other.Count("GET "); n != 1 || leaked != "" {
		t.Errorf("%d requests, with the credentials %q", n, leaked)
	}
}

// TestUnreachable fails at once, and says what is wrong.
func TestUnreachable(t *testing.T) {
	atHome(t)
	gone := registrytest.New(t)
	host := gone.Host()
	gone.Close()
	for name, want := range map[string]string{
		host + "/app":      host + " refuses the connection",
		"host.example/app": "cannot find the host host.example",
	} {
		if _, err := get(t, name, Options{}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line with %q", name, err, want)
		}
	}
}
