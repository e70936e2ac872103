package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"mica/run/record"
	"mica/run/volume"
)

// stepMounts are the mounts of one RUN.
type stepMounts struct {
	depends []any // what of them decides the outcome
	due     []func(context.Context) (record.Mount, error)
	env     []func() (string, error) // variables, NAME=VALUE
}

// add takes a mount that is made once the command is due, which it is not where an earlier build has its result.
func (ms *stepMounts) add(make func(context.Context) (record.Mount, error)) {
	ms.due = append(ms.due, make)
}

// prepare makes the mounts and variables.
func (ms *stepMounts) prepare(ctx context.Context) (mounts []record.Mount, env []string, err error) {
	for _, make := range ms.due {
		m, err := make(ctx)
		if err != nil {
			return nil, nil, fmt.Errorf("RUN --mount: %w", err)
		}
		mounts = append(mounts, m)
	}
	for _, read := range ms.env {
		kv, err := read()
		if err != nil {
			return nil, nil, fmt.Errorf("RUN --mount: %w", err)
		}
		env = append(env, kv)
	}
	return mounts, env, nil
}

func (st *stage) mounts(ctx context.Context, cmd *instructions.RunCommand) (*stepMounts, error) {
	ms := new(stepMounts)
	for _, m := range instructions.GetMounts(cmd) {
		ms.depends = append(ms.depends, mountKey(m))
		if err := st.mount(ctx, m, ms); err != nil {
			return nil, fmt.Errorf("RUN --mount=type=%s: %w", m.Type, err)
		}
	}
	return ms, nil
}

func (st *stage) mount(ctx context.Context, m *instructions.Mount, ms *stepMounts) error {
	if m.Target != "" {
		m.Target = st.inWorkingDir(m.Target)
	}
	byDefault := m.Type == instructions.MountTypeSecret || m.Type == instructions.MountTypeSSH
	if m.Target == "/" || m.Target == "" && !byDefault {
		return errors.New("it has no target, or the root itself")
	}
	switch m.Type {
	case instructions.MountTypeBind:
		return st.bind(ctx, m, ms)
	case instructions.MountTypeCache:
		return st.cache(m, ms)
	case instructions.MountTypeTmpfs:
		options := "mode=1777"
		if m.SizeLimit > 0 {
			options += fmt.Sprintf(",size=%d", m.SizeLimit)
		}
		ms.add(func(context.Context) (record.Mount, error) {
			return record.Mount{Type: record.MountTmpfs, Target: m.Target, Options: options}, nil
		})
		return nil
	case instructions.MountTypeSecret:
		return st.secret(m, ms)
	case instructions.MountTypeSSH:
		return st.ssh(m, ms)
	}
	return errors.New("the type is not known")
}

// mountKey is what of a mount decides the outcome of a command, but for what is there.
func mountKey(m *instructions.Mount) []any {
	return []any{m.Type, m.Target, m.Source, m.ReadOnly, m.SizeLimit, m.CacheID, m.CacheSharing, m.Env, m.Mode, m.UID, m.GID}
}

// bind mounts a part of the context, or of another image.
func (st *stage) bind(ctx context.Context, m *instructions.Mount, ms *stepMounts) error {
	mount := record.Mount{Target: m.Target, ReadOnly: m.ReadOnly}
	src, err := st.source(ctx, m.From)
	if err != nil {
		return err
	}
	switch src := src.(type) {
	case *imageTree:
		at, fi, err := src.find(ctx, m.Source)
		if err != nil {
			return err
		}
		if at == "." {
			at = "" // all of it
		}
		mount.Type, mount.Image, mount.Subpath, mount.File = record.MountImage, src.id, at, !fi.IsDir()
		ms.depends = append(ms.depends, src.id)
		ms.add(func(context.Context) (record.Mount, error) { return mount, nil })
	case *Dir:
		p, fi, err := src.find(ctx, m.Source)
		if err != nil {
			return err
		}
		mount.Type, mount.Overlay = record.MountBind, !m.ReadOnly
		if mount.Overlay && !fi.IsDir() {
			return errors.New("rw is for directories")
		}
		sum, err := contentOf(ctx, []item{{pack: func(ctx context.Context, fn entryFunc) error { return src.pack(ctx, p, fn) }}}, &look{})
		if err != nil {
			return err
		}
		ms.depends = append(ms.depends, sum)
		ms.add(func(ctx context.Context) (_ record.Mount, err error) {
			mount.Source, err = src.visible(ctx, p, st.b.scratch)
			return mount, err
		})
	}
	return nil
}

// cache mounts a volume that outlives the build.
func (st *stage) cache(m *instructions.Mount, ms *stepMounts) error {
	if m.From != "" || m.Source != "" {
		return errors.New("a cache that begins with files of another image is not possible: it begins empty")
	}
	mode := os.FileMode(0o755)
	if m.Mode != nil {
		mode = os.FileMode(*m.Mode)
	}
	if ofOthers(m) {
		mode = 0o777 // whose it is is not known outside of the container
	}
	ms.add(func(context.Context) (record.Mount, error) {
		v, err := st.b.cacheVolume(m)
		if err != nil {
			return record.Mount{}, err
		}
		if entries, err := os.ReadDir(v.Data); err == nil && len(entries) == 0 {
			if err := os.Chmod(v.Data, mode); err != nil {
				return record.Mount{}, err
			}
		}
		return record.Mount{Type: record.MountVolume, Volume: v.Name, Target: m.Target, ReadOnly: m.ReadOnly, NoCopy: true}, nil
	})
	return nil
}

// ofOthers tells whether a mount is to belong to another user or group than root.
func ofOthers(m *instructions.Mount) bool {
	return m.UID != nil && *m.UID != 0 || m.GID != nil && *m.GID != 0
}

// cacheLabel marks the volumes of cache mounts.
const cacheLabel = "mica.build-cache"

// IsCache tells whether a volume is one of cache mounts.
func IsCache(v *volume.Volume) bool { return v.Labels[cacheLabel] != "" }

// cacheVolume gives the volume of a cache mount.
func (b *builder) cacheVolume(m *instructions.Mount) (*volume.Volume, error) {
	id := cmp.Or(m.CacheID, m.Target)
	name := "build-cache-" + hashOf(id)[:16]
	v, err := b.e.Volumes().Get(name)
	if !errors.Is(err, volume.ErrNotFound) {
		return v, err
	}
	v, err = b.e.Volumes().Create(name, map[string]string{cacheLabel: id})
	if err != nil { // another build may just have made it
		return b.e.Volumes().Get(name)
	}
	return v, nil
}

// secret mounts a file with a secret, or sets a variable.
func (st *stage) secret(m *instructions.Mount, ms *stepMounts) error {
	id := cmp.Or(m.CacheID, filepath.Base(m.Target))
	secret, ok := st.b.opt.Secrets[id]
	if !ok {
		if m.Required {
			return fmt.Errorf("the secret %s is missing: give it with --secret id=%s,src=FILE", id, id)
		}
		return nil
	}
	if m.Env != nil {
		name := cmp.Or(*m.Env, id)
		ms.env = append(ms.env, func() (string, error) {
			data, err := secret.read()
			return name + "=" + string(data), err
		})
		if m.Target == "" {
			return nil
		}
	}
	if m.Target == "" {
		m.Target = "/run/secrets/" + id
	}
	mode := os.FileMode(0o400)
	if m.Mode != nil {
		mode = os.FileMode(*m.Mode)
	}
	if ofOthers(m) {
		mode |= 0o044 // the file is root's in the container
	}
	ms.add(func(context.Context) (record.Mount, error) {
		data, err := secret.read()
		if err != nil {
			return record.Mount{}, fmt.Errorf("secret %s: %w", id, err)
		}
		file, err := st.b.write("secret", data, mode)
		return record.Mount{Type: record.MountBind, Source: file, Target: m.Target, ReadOnly: true}, err
	})
	return nil
}

// write makes a file of its own for one mount.
func (b *builder) write(name string, data []byte, mode os.FileMode) (string, error) {
	dir, err := os.MkdirTemp(b.scratch, name+"-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return "", err
	}
	return file, os.Chmod(file, mode) // which no umask narrows
}

func (s Secret) read() ([]byte, error) {
	if s.File != "" {
		return os.ReadFile(s.File)
	}
	value, ok := os.LookupEnv(s.Env)
	if !ok {
		return nil, fmt.Errorf("the variable %s is not set", s.Env)
	}
	return []byte(value), nil
}

// ssh mounts the socket of an agent.
func (st *stage) ssh(m *instructions.Mount, ms *stepMounts) error {
	id := cmp.Or(m.CacheID, "default")
	socket, ok := st.b.opt.SSH[id]
	if !ok {
		if m.Required {
			return fmt.Errorf("the agent %s is missing: give it with --ssh %s", id, id)
		}
		return nil
	}
	if m.Target == "" {
		m.Target = fmt.Sprintf("/run/buildkit/ssh_agent.%d", len(ms.due))
	}
	ms.add(func(context.Context) (record.Mount, error) {
		return record.Mount{Type: record.MountBind, Source: socket, Target: m.Target}, nil
	})
	ms.env = append(ms.env, func() (string, error) { return "SSH_AUTH_SOCK=" + m.Target, nil })
	return nil
}
