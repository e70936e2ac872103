package registry

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"oras.land/oras-go/v2/registry/remote/credentials"

	"mica/internal/imageref"
	"mica/internal/registrytest"
)

// TestLogin keeps what the registry accepts, beside all else that the file says, and forgets it again.
func TestLogin(t *testing.T) {
	ctx := context.Background()
	for _, scheme := range []string{"basic", "bearer"} {
		home := atHome(t)
		reg := serving(t, "{}")
		reg.Hook = registrytest.Basic
		if scheme == "bearer" {
			reg.Hook = reg.Bearer
		}
		file := filepath.Join(home, "real.json")
		write(t, file, `{"psFormat":"x","auths":{"host.example":{"auth":"YTpi"}}}`)
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(home, ".docker/config.json")
		if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(file, link); err != nil {
			t.Fatal(err)
		}
		err := Login(ctx, reg.Host(), registrytest.User, "wrong", Options{})
		if err == nil || !strings.Contains(err.Error(), "does not accept this user name and password") {
			t.Errorf("%s: wrong password: %v", scheme, err)
		}
		if err := Login(ctx, "http://"+reg.Host()+"/v1/", registrytest.User, registrytest.Password, Options{}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(data), `"psFormat": "x"`) || !strings.Contains(string(data), "YTpi") {
			t.Errorf("%s: the file is %s, %v", scheme, data, err)
		}
		if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", scheme, st.Mode(), err)
		}
		if _, err := get(t, reg.Host()+"/app", Options{}); err != nil {
			t.Errorf("%s: after the login: %v", scheme, err)
		}
		for _, want := range []bool{true, false} {
			if known, err := Logout(ctx, reg.Host(), Options{}); err != nil || known != want {
				t.Errorf("%s: logout: %v, %v", scheme, known, err)
			}
		}
		if _, err := get(t, reg.Host()+"/app", Options{}); err == nil {
			t.Errorf("%s: still known after the logout", scheme)
		}
	}
}

// TestLoginBesidePodmans replaces what Podman kept, which is read before what Docker keeps, and forgets all of it.
func TestLoginBesidePodmans(t *testing.T) {
	ctx := context.Background()
	home := atHome(t)
	t.Setenv("XDG_RUNTIME_DIR", home+"/run")
	reg := serving(t, "{}")
	reg.Hook = registrytest.Basic
	stale := `{"auths":{"` + reg.Host() + `":{"auth":"YTpi"}}}`
	podmans, dockers := home+"/run/containers/auth.json", home+"/.docker/config.json"
	write(t, podmans, stale)
	if err := Login(ctx, reg.Host(), registrytest.User, registrytest.Password, Options{}); err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, reg.Host()+"/app", Options{}); err != nil {
		t.Errorf("after the login: %v", err)
	}
	write(t, dockers, stale)
	if known, err := Logout(ctx, reg.Host(), Options{}); err != nil || !known {
		t.Errorf("logout: %v, %v", known, err)
	}
	for _, file := range []string{podmans, dockers} {
		if data, err := os.ReadFile(file); err != nil || strings.Contains(string(data), reg.Host()) {
			t.Errorf("left in %s: %s, %v", file, data, err)
		}
	}
}

// TestLoginHub keeps the hub's credentials where Docker and mica look for them.
func TestLoginHub(t *testing.T) {
	dockers := credentials.ServerAddressFromRegistry(imageref.Hub)
	for _, server := range []string{"", imageref.Hub, dockers} {
		if got := serverOf(server); got != imageref.Hub {
			t.Errorf("%q is %s", server, got)
		}
	}
	home := atHome(t)
	for _, key := range []string{dockers, imageref.Hub, imageref.Hub + "/library"} {
		write(t, filepath.Join(home, ".docker/config.json"), `{"auths":{"`+key+`":{"auth":"YTpi"}}}`)
		repo, err := Open(parse(t, "debian"), Options{})
		if err != nil {
			t.Fatal(err)
		}
		p := repo.places[0]
		find, err := p.credential(Options{})
		if err != nil {
			t.Fatal(err)
		}
		if cred, err := find(context.Background(), p.Host()); err != nil || cred.Username != "a" {
			t.Errorf("%s: %+v, %v", key, cred, err)
		}
	}
}
