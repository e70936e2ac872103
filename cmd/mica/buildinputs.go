package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"mica/run/build"
)

// readSecrets reads --secret and --ssh.
func (f *buildFlags) readSecrets(opt *build.Options) error {
	for _, s := range f.secrets {
		var id, kind string
		var secret build.Secret
		for field := range strings.SplitSeq(s, ",") {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "id":
				id = value
			case "src", "source":
				secret.File = value
			case "env":
				secret.Env = value
			case "type":
				kind = value
			default:
				return fmt.Errorf("--secret %q: want id=ID,src=FILE or id=ID,env=VARIABLE", s)
			}
		}
		if id == "" {
			return fmt.Errorf("--secret %q: it has no id", s)
		}
		if secret.File == "" && secret.Env == "" {
			if _, set := os.LookupEnv(id); kind != "file" && set {
				secret.Env = id
			} else {
				secret.File = id
			}
		} else if kind == "env" && secret.Env == "" {
			secret = build.Secret{Env: secret.File}
		}
		if secret.File != "" {
			if _, err := os.Stat(secret.File); err != nil {
				return fmt.Errorf("--secret %q: %w", s, err)
			}
		}
		opt.Secrets[id] = secret
	}
	for _, s := range f.ssh {
		id, socket, has := strings.Cut(s, "=")
		if !has {
			socket = os.Getenv("SSH_AUTH_SOCK")
		}
		if fi, err := os.Stat(socket); err != nil || fi.Mode()&os.ModeSocket == 0 {
			return fmt.Errorf("--ssh %s: there is no agent: start one, and name its socket, or set SSH_AUTH_SOCK", s)
		}
		abs, err := filepath.Abs(socket)
		if err != nil {
			return err
		}
		opt.SSH[id] = abs
	}
	return nil
}

// readContexts opens the further contexts.
func (f *buildFlags) readContexts(ctx context.Context, opt *build.Options, temp string) error {
	for _, s := range f.contexts {
		name, value, has := strings.Cut(s, "=")
		if !has || name == "" || value == "" {
			return fmt.Errorf("--build-context %q: want NAME=DIRECTORY or NAME=docker-image://IMAGE", s)
		}
		for _, scheme := range []string{"docker-image://", "container-image://", "docker://"} {
			if image, ok := strings.CutPrefix(value, scheme); ok {
				opt.Contexts[name] = build.Context{Image: image}
			}
		}
		if opt.Contexts[name].Image != "" {
			continue
		}
		from, err := build.FetchContext(ctx, value, os.Stdin, temp)
		if err == nil && from.Dockerfile != nil {
			err = errors.New("it is no archive")
		}
		if err != nil {
			return fmt.Errorf("--build-context %q: %w", s, err)
		}
		dir, err := build.OpenDir(from.Path, ".containerignore", ".dockerignore")
		if err != nil {
			return fmt.Errorf("--build-context %q: %w", s, err)
		}
		opt.Contexts[name] = build.Context{Dir: dir}
	}
	return nil
}

// dockerfileNames are the names of a Dockerfile that is not named, in order.
var dockerfileNames = []string{"Containerfile", "Dockerfile"}

// readContext finds the context and the Dockerfile.
func (f *buildFlags) readContext(ctx context.Context, opt *build.Options, args []string, temp string) error {
	where := "."
	if len(args) == 1 {
		where = args[0]
	}
	if where == "-" && f.file == "-" {
		return errors.New("the context and the Dockerfile cannot both come from standard input: name one of them")
	}
	from, err := build.FetchContext(ctx, where, os.Stdin, temp)
	if err != nil {
		return err
	}
	opt.Name = "Dockerfile"
	if from.Dockerfile != nil {
		opt.Dockerfile = from.Dockerfile
		return nil
	}
	file := f.file
	if file != "-" {
		if file, err = f.dockerfile(from); err != nil {
			return err
		}
		opt.Name = cmp.Or(f.file, file)
	}
	ignore, err := f.ignoreFiles(file)
	if err != nil {
		return err
	}
	if opt.Context, err = build.OpenDir(from.Path, ignore...); err != nil {
		return err
	}
	if file == "-" {
		opt.Dockerfile, err = io.ReadAll(os.Stdin)
	} else {
		opt.Dockerfile, err = opt.Context.ReadFile(file)
	}
	return err
}

// dockerfile finds the Dockerfile: relative names count from here, as Docker has it, or else from the context. What comes
// from elsewhere is named as the context has it.
func (f *buildFlags) dockerfile(from *build.Fetched) (string, error) {
	if f.file == "" {
		for _, name := range dockerfileNames {
			if _, err := os.Stat(filepath.Join(from.Path, name)); err == nil {
				return name, nil
			}
		}
		return "", fmt.Errorf("there is no %s in %s: name the file with -f", strings.Join(dockerfileNames, " and no "), from.Path)
	}
	if from.Remote {
		return f.file, nil
	}
	if _, err := os.Stat(f.file); err == nil {
		return filepath.Abs(f.file)
	}
	if _, err := os.Stat(filepath.Join(from.Path, f.file)); err == nil && !filepath.IsAbs(f.file) {
		return f.file, nil
	}
	return "", fmt.Errorf("there is no Dockerfile %s, here or in the context", f.file)
}

// ignoreFiles are the files that may say what is left out of the context; the first that is there counts.
func (f *buildFlags) ignoreFiles(dockerfile string) ([]string, error) {
	if f.ignoreFile == "" {
		return []string{dockerfile + ".dockerignore", dockerfile + ".containerignore", ".containerignore", ".dockerignore"}, nil
	}
	abs, err := filepath.Abs(f.ignoreFile)
	if err == nil {
		_, err = os.Stat(abs)
	}
	return []string{abs}, err
}
