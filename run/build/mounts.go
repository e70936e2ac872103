package build

import (
	"context"
	"errors"
	"fmt"
	"mica/run/record"
	"mica/run/volume"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// stepMounts are the mounts of one RUN.
type stepMounts struct {
	list    []record.Mount
	env     []string
	depends []any // what of them decides the outcome
}

func (st *stage) mounts(ctx context.Context, cmd *instructions.RunCommand) (*stepMounts, error) {
	ms := new(stepMounts)
	for _, m := range instructions.GetMounts(cmd) {
		if m.Target != "" && !filepath.IsAbs(m.Target) {
			m.Target = filepath.Join("/", st.cfg.WorkingDir, m.Target)
		}
		ms.depends = append(ms.depends, mountKey(m))
		var err error
		switch m.Type {
		case instructions.MountTypeBind:
			err = st.bind(ctx, m, ms)
		case instructions.MountTypeCache:
			err = st.cache(m, ms)
		case instructions.MountTypeTmpfs:
			options := "mode=1777"
			if m.SizeLimit > 0 {
				options += fmt.Sprintf(",size=%d", m.SizeLimit)
			}
			ms.list = append(ms.list, record.Mount{Type: record.MountTmpfs, Target: m.Target, Options: options})
		case instructions.MountTypeSecret:
			err = st.secret(m, ms)
		case instructions.MountTypeSSH:
			err = st.ssh(m, ms)
		default:
			err = errors.New("the type is not known")
		}
		if last := len(ms.list) - 1; err == nil && last >= 0 && filepath.Clean("/"+ms.list[last].Target) == "/" {
			err = errors.New("it has no target, or the root itself")
		}
		if err != nil {
			return nil, fmt.Errorf("RUN --mount=type=%s: %w", m.Type, err)
		}
	}
	return ms, nil
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
	case *Dir:
		p, fi, err := src.find(ctx, m.Source)
		if err != nil {
			return err
		}
		mount.Type, mount.Overlay = record.MountBind, !m.ReadOnly
		if mount.Overlay && !fi.IsDir() {
			return errors.New("rw is for directories")
		}
		if mount.Source, err = src.visible(ctx, p, st.b.scratch); err != nil {
			return err
		}
		sum, err := contentOf(ctx, []item{{pack: func(ctx context.Context, fn entryFunc) error { return src.pack(ctx, p, fn) }}}, &look{})
		if err != nil {
			return err
		}
		ms.depends = append(ms.depends, sum)
	}
	ms.list = append(ms.list, mount)
	return nil
}

// cache mounts a volume that outlives the build.
func (st *stage) cache(m *instructions.Mount, ms *stepMounts) error {
	if m.From != "" || m.Source != "" {
		return errors.New("a cache that begins with files of another image is not possible: it begins empty")
	}
	v, err := st.b.cacheVolume(m)
	if err != nil {
		return err
	}
	mode := os.FileMode(0o755)
	if m.Mode != nil {
		mode = os.FileMode(*m.Mode)
	}
	if m.UID != nil && *m.UID != 0 || m.GID != nil && *m.GID != 0 {
		mode = 0o777 // whose it is is not known outside of the container
	}
	if entries, err := os.ReadDir(v.Data); err == nil && len(entries) == 0 {
		_ = os.Chmod(v.Data, mode)
	}
	ms.list = append(ms.list, record.Mount{Type: record.MountVolume, Volume: v.Name, Target: m.Target, ReadOnly: m.ReadOnly, NoCopy: true})
	return nil
}

// cacheLabel marks the volumes of cache mounts.
const cacheLabel = "mica.build-cache"

// IsCache tells whether a volume is one of cache mounts.
func IsCache(v *volume.Volume) bool { return v.Labels[cacheLabel] != "" }

// cacheVolume gives the volume of a cache mount.
func (b *builder) cacheVolume(m *instructions.Mount) (*volume.Volume, error) {
	id := m.CacheID
	if id == "" {
		id = filepath.Clean(m.Target)
	}
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
	id := m.CacheID
	if id == "" {
		id = filepath.Base(m.Target)
	}
	secret, ok := st.b.opt.Secrets[id]
	if !ok {
		if m.Required {
			return fmt.Errorf("the secret %s is missing: give it with --secret id=%s,src=FILE", id, id)
		}
		return nil
	}
	data, err := secret.read()
	if err != nil {
		return fmt.Errorf("secret %s: %w", id, err)
	}
	if m.Env != nil {
		name := *m.Env
		if name == "" {
			name = id
		}
		ms.env = append(ms.env, name+"="+string(data))
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
	if m.UID != nil && *m.UID != 0 || m.GID != nil && *m.GID != 0 {
		mode |= 0o044 // the file is root's in the container
	}
	dir, err := os.MkdirTemp(st.b.scratch, "secret-")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "secret")
	if err := os.WriteFile(file, data, mode); err != nil {
		return err
	}
	if err := os.Chmod(file, mode); err != nil {
		return err
	}
	ms.list = append(ms.list, record.Mount{Type: record.MountBind, Source: file, Target: m.Target, ReadOnly: true})
	return nil
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
	id := m.CacheID
	if id == "" {
		id = "default"
	}
	socket, ok := st.b.opt.SSH[id]
	if !ok {
		if m.Required {
			return fmt.Errorf("the agent %s is missing: give it with --ssh %s", id, id)
		}
		return nil
	}
	if m.Target == "" {
		m.Target = fmt.Sprintf("/run/buildkit/ssh_agent.%d", len(ms.list))
	}
	ms.list = append(ms.list, record.Mount{Type: record.MountBind, Source: socket, Target: m.Target})
	ms.env = append(ms.env, "SSH_AUTH_SOCK="+m.Target)
	return nil
}
