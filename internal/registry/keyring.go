package registry

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/credentials/trace"

	"mica/internal/imageref"
)

// credential finds out who asks for a place: the user that the options name, for the place itself but for no mirror of
// it, or else whom the first of the files of credentials has for it.
func (p place) credential(opt Options) (auth.CredentialFunc, error) {
	if opt.Creds != "" && !p.mirror {
		name, password, ok := strings.Cut(opt.Creds, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("--creds: want USER:PASSWORD")
		}
		return auth.StaticCredential(p.Registry, auth.Credential{Username: name, Password: password}), nil
	}
	return func(ctx context.Context, host string) (auth.Credential, error) {
		if host != p.Host() {
			return auth.EmptyCredential, nil
		}
		for _, file := range authFiles(opt.AuthFile) {
			cred, err := p.look(ctx, file)
			if err != nil || cred != auth.EmptyCredential {
				return cred, err
			}
		}
		return auth.EmptyCredential, nil
	}, nil
}

// look reads a file for what it has for a place. Podman's may have users for parts of a registry.
func (p place) look(ctx context.Context, file string) (auth.Credential, error) {
	store, err := credentials.NewStore(file, credentials.StoreOptions{})
	if err != nil {
		return auth.EmptyCredential, fmt.Errorf("read credentials: %w", err)
	}
	var keys []string
	for key := p.Registry + "/" + p.Repository; key != p.Registry; key = key[:strings.LastIndexByte(key, '/')] {
		keys = append(keys, key)
	}
	for _, key := range append(keys, serverKeys(p.Registry)...) {
		helper := ""
		cred, err := store.Get(trace.WithExecutableTrace(ctx, &trace.ExecutableTrace{ExecuteDone: func(name, _ string, err error) {
			if err != nil {
				helper = name
			}
		}}), key)
		switch {
		case err != nil && helper != "":
			return auth.EmptyCredential, fmt.Errorf("read credentials: %s, which %s names, fails for %s: %w", helper, file, key, err)
		case err != nil: // the error itself may quote the password
			return auth.EmptyCredential, fmt.Errorf("read credentials: the entry for %s in %s does not work", key, file)
		}
		if cred != auth.EmptyCredential {
			return cred, nil
		}
	}
	return auth.EmptyCredential, nil
}

// authFiles lists the files that may have credentials: the one that is named, or else the usual ones.
func authFiles(named string) []string {
	if named == "" {
		named = os.Getenv("REGISTRY_AUTH_FILE")
	}
	if named != "" {
		return []string{named}
	}
	var list []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		list = append(list, filepath.Join(dir, "containers", "auth.json"))
	}
	if dir := configDir(); dir != "" {
		list = append(list, filepath.Join(dir, "auth.json"))
	}
	if file := dockerFile(); file != "" {
		list = append(list, file)
	}
	return list
}

// dockerFile is Docker's configuration, or "".
func dockerFile() string {
	dir := os.Getenv("DOCKER_CONFIG")
	if dir == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		dir = filepath.Join(home, ".docker")
	}
	return filepath.Join(dir, "config.json")
}

// serverKeys are the names of a registry as a whole in files of credentials, of which the hub has two.
func serverKeys(host string) []string {
	if address := credentials.ServerAddressFromRegistry(host); address != host {
		return []string{host, address}
	}
	return []string{host}
}

// keyring is one file of credentials that can be written.
type keyring struct {
	credentials.Store
	path string
}

// keyrings opens the files that may have credentials. Links are followed, so that writing does not replace them.
func keyrings(named string) ([]keyring, error) {
	files := authFiles(named)
	if len(files) == 0 {
		return nil, errors.New("you have no home directory to keep credentials in: name a file with --authfile")
	}
	var list []keyring
	for _, path := range files {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		}
		store, err := credentials.NewStore(path, credentials.StoreOptions{AllowPlaintextPut: true})
		if err != nil {
			return nil, fmt.Errorf("read credentials: %w", err)
		}
		list = append(list, keyring{store, path})
	}
	return list, nil
}

// has tells whether there is an entry, even one that does not work.
func (k keyring) has(ctx context.Context, key string) bool {
	cred, err := k.Get(ctx, key)
	return err != nil || cred != auth.EmptyCredential
}

// forget removes the entries of a registry, but for the key except, and tells whether there was any.
func (k keyring) forget(ctx context.Context, host, except string) (known bool, err error) {
	for _, key := range serverKeys(host) {
		if key == except || !k.has(ctx, key) {
			continue
		}
		known = true
		if err := k.Delete(ctx, key); err != nil {
			return known, fmt.Errorf("forget the credentials for %s in %s: %w", host, k.path, err)
		}
	}
	return known, nil
}

// serverOf is the registry that a user means by SERVER: a host, also as a URL; empty is the hub.
func serverOf(server string) string {
	server = strings.TrimPrefix(strings.TrimPrefix(server, "https://"), "http://")
	server, _, _ = strings.Cut(server, "/")
	switch server {
	case "", "index." + imageref.Hub:
		return imageref.Hub
	}
	return server
}
