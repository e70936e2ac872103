package registry

import (
	"context"
	"fmt"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// Login asks a registry whether it knows a user by this password, and keeps both if it does: in the file of
// credentials, or by the helper that this names.
func Login(ctx context.Context, server, user, password string, opt Options) error {
	store, _, err := loginStore(opt)
	if err != nil {
		return err
	}
	p := place{Reference: registry.Reference{Registry: serverOf(server)}}
	transport, plain, err := p.reach(ctx, opt)
	if err != nil {
		return p.explain(err)
	}
	reg, err := remote.NewRegistry(p.Registry)
	if err != nil {
		return err
	}
	reg.PlainHTTP, reg.Client = plain, newClient(p.Registry, transport)
	err = credentials.Login(ctx, store, reg, auth.Credential{Username: user, Password: password})
	if denied(err) {
		return fmt.Errorf("%s does not accept this user name and password", p.Registry)
	}
	return p.explain(err)
}

// Logout forgets what is kept for a registry, and tells whether there was anything.
func Logout(ctx context.Context, server string, opt Options) (known bool, err error) {
	store, path, err := loginStore(opt)
	if err != nil {
		return false, err
	}
	host := serverOf(server)
	for _, key := range []string{host, credentials.ServerAddressFromRegistry(host)} {
		cred, err := store.Get(ctx, key)
		if err == nil && cred == auth.EmptyCredential {
			continue
		}
		known = true
		if err := store.Delete(ctx, key); err != nil {
			return known, fmt.Errorf("forget the credentials for %s in %s: %w", host, path, err)
		}
	}
	return known, nil
}

// ServerName is the name of the registry that a user means by SERVER; empty is the hub.
func ServerName(server string) string { return serverOf(server) }

func loginStore(opt Options) (credentials.Store, string, error) {
	path, err := loginFile(opt.AuthFile)
	if err != nil {
		return nil, "", err
	}
	store, err := credentials.NewStore(path, credentials.StoreOptions{AllowPlaintextPut: true})
	if err != nil {
		return nil, "", fmt.Errorf("read credentials: %w", err)
	}
	return store, path, nil
}
