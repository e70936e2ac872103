package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/spf13/pflag"

	"mica/internal/imageref"
	"mica/internal/registry"
)

// exitRegistry is the exit code of commands that fail at a registry, as Docker has it.
const exitRegistry = 1

// registryFlags say how registries are reached, and as whom.
type registryFlags struct {
	tlsVerify       optionalBool
	authFile, creds string
}

func (f *registryFlags) register(fl *pflag.FlagSet) {
	f.registerLogin(fl)
	fl.StringVar(&f.creds, "creds", "", "user and password for the registry: USER:PASSWORD")
}

// registerLogin registers what login takes too, which has other flags for the user.
func (f *registryFlags) registerLogin(fl *pflag.FlagSet) {
	fl.Var(&f.tlsVerify, "tls-verify", "false allows HTTP and unknown certificates; HTTP on this machine itself is allowed anyway")
	fl.Lookup("tls-verify").NoOptDefVal = "true"
	fl.StringVar(&f.authFile, "authfile", "", "file of credentials (default $REGISTRY_AUTH_FILE, or those of Podman and Docker)")
}

func (f *registryFlags) options() registry.Options {
	return registry.Options{TLSVerify: f.tlsVerify.value, AuthFile: f.authFile, Creds: f.creds}
}

// optionalBool is the value of a flag that need not be given.
type optionalBool struct{ value *bool }

func (b *optionalBool) String() string {
	if b.value == nil {
		return ""
	}
	return strconv.FormatBool(*b.value)
}

func (b *optionalBool) Set(s string) error {
	v, err := strconv.ParseBool(s)
	b.value = &v
	return err
}

func (b *optionalBool) Type() string { return "bool" }

// open finds the repository of a name.
func (f *registryFlags) open(named imageref.Ref) (*registry.Repository, error) {
	return registry.Open(named, f.options())
}

// interruptible is untilInterrupted of what speaks with a registry.
func interruptible(ctx context.Context, do func(context.Context) error) error {
	err := untilInterrupted(ctx, do)
	var code exitCode
	if err == nil || errors.As(err, &code) {
		return err
	}
	return &failed{exitRegistry, printableError{err}}
}
