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
	host := serverOf(server)
	store, err := loginStore(ctx, host, opt)
	if err != nil {
		return err
	}
	p := place{Reference: registry.Reference{Registry: host}}
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
	if err != nil {
		return p.explain(err)
	}
	_, err = store.forget(ctx, host, credentials.ServerAddressFromRegistry(host)) // which has the new ones
	return err
}

// Logout forgets what is kept for a registry, by whatever program, and tells whether there was anything.
func Logout(ctx context.Context, server string, opt Options) (known bool, err error) {
	list, err := keyrings(opt.AuthFile)
	if err != nil {
		return false, err
	}
	for _, k := range list {
		had, err := k.forget(ctx, serverOf(server), "")
		if known = known || had; err != nil {
			return known, err
		}
	}
	return known, nil
}

// ServerName is the name of the registry that a user means by SERVER; empty is the hub.
func ServerName(server string) string { return serverOf(server) }

// loginStore is where a login is kept: the file that has one for the registry and is read first, or else Docker's, which is the last.
func loginStore(ctx context.Context, host string, opt Options) (keyring, error) {
	list, err := keyrings(opt.AuthFile)
	if err != nil {
		return keyring{}, err
	}
	last := list[len(list)-1]
	for _, k := range list[:len(list)-1] {
		for _, key := range serverKeys(host) {
			if k.has(ctx, key) {
				return k, nil
			}
		}
	}
	return last, nil
}
