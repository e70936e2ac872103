package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"mica/internal/environ"
	"mica/layerstore"
	"mica/run"
	"mica/run/attach"
	"mica/run/control"
	"mica/run/record"
)

// run carries out RUN: a command in a container, with what it mounts for that time.
func (st *stage) run(ctx context.Context, cmd *instructions.RunCommand) error {
	if s := instructions.GetSecurity(cmd); s != "" && s != instructions.SecuritySandbox {
		return fmt.Errorf("RUN --security=%s is not possible for a plain user", s)
	}
	if list := instructions.GetDevices(cmd); len(list) > 0 {
		return errors.New("RUN --device is not possible")
	}
	host := st.b.opt.Host
	host.Mounts = slices.Clone(host.Mounts)
	host.Log = record.Log{None: true}
	if err := setNetwork(&host, instructions.GetNetwork(cmd)); err != nil {
		return err
	}
	ms, err := st.mounts(ctx, cmd)
	if err != nil {
		return err
	}
	args, shown, err := st.runArgs(cmd, ms)
	if err != nil {
		return err
	}
	host.Mounts = append(host.Mounts, ms.list...)
	cfg := layerstore.ContainerConfig{
		Cmd: args, Env: append(st.runEnv(), ms.env...), User: st.cfg.User, WorkingDir: st.cfg.WorkingDir,
	}
	text := "RUN " + shown
	if names := st.args.list(); len(names) > 0 {
		text = fmt.Sprintf("RUN |%d %s %s", len(names), strings.Join(names, " "), shown)
	}
	return st.layer(ctx, layer{
		text: text, shown: cmd.String(), depends: []any{args, ms.depends, host.Network, host.ExtraHosts},
		options: run.CreateOptions{Step: record.StepCommand, Config: &cfg, Command: args, Host: host},
		work:    func(ctx context.Context, c *run.Created) error { return st.b.command(ctx, c, shown) },
	})
}

// runArgs is the command line of RUN and how a history shows it. A here-document is the shell's input: the script itself where
// the line is nothing else, and a program of its own, mounted for that, where it then begins with #!.
func (st *stage) runArgs(cmd *instructions.RunCommand, ms *stepMounts) (args []string, shown string, err error) {
	if !cmd.PrependShell {
		return cmd.CmdLine, strings.Join(cmd.CmdLine, " "), nil
	}
	line := cmd.ShellDependantCmdLine
	if len(line.Files) == 0 {
		args = st.cfg.CommandLine(&line)
		return args, strings.Join(args, " "), nil
	}
	shown = strings.Join(line.CmdLine, " ") + " (" + firstLine(strings.TrimSpace(line.Files[0].Data)) + ")"
	script := line.Files[0]
	switch alone := len(line.Files) == 1 && len(line.CmdLine) == 1 && strings.TrimPrefix(line.CmdLine[0], "<<") == script.Name; {
	case alone && strings.HasPrefix(script.Data, "#!"):
		mount, err := st.b.program(script)
		if err != nil {
			return nil, "", err
		}
		ms.list, ms.depends = append(ms.list, mount), append(ms.depends, script.Data)
		return []string{mount.Target}, shown, nil
	case alone:
		line.CmdLine = []string{script.Data}
	default:
		for _, f := range line.Files {
			line.CmdLine = append(line.CmdLine, "\n"+f.Data+f.Name)
		}
	}
	return st.cfg.CommandLine(&line), shown, nil
}

// program makes a mount of a script that is in the Dockerfile itself.
func (b *builder) program(f instructions.ShellInlineFile) (record.Mount, error) {
	p := filepath.Join(b.scratch, "script-"+hash(f.Data)[:16])
	if err := os.WriteFile(p, []byte(f.Data), 0o755); err != nil {
		return record.Mount{}, err
	}
	return record.Mount{Type: record.MountBind, Source: p, Target: "/dev/pipes/" + f.Name, ReadOnly: true}, os.Chmod(p, 0o755)
}

// runEnv is the environment of a command: arguments, then proxies, then what the image sets.
func (st *stage) runEnv() []string {
	env := st.env()
	for _, name := range slices.Sorted(maps.Keys(st.b.opt.Args)) {
		if isProxy(name) {
			env = environ.Set(env, name+"="+st.b.opt.Args[name])
		}
	}
	return env
}

// setNetwork heeds RUN --network.
func setNetwork(host *record.HostConfig, mode instructions.NetworkMode) error {
	switch mode {
	case "", instructions.NetworkDefault:
	case instructions.NetworkNone, instructions.NetworkHost:
		host.Network = mode
	default:
		return fmt.Errorf("RUN --network=%s: want default, host or none", mode)
	}
	return nil
}

// command runs the main process of a container, and passes on what it writes.
func (b *builder) command(ctx context.Context, c *run.Created, shown string) error {
	conn, err := b.e.Start(c, &control.Attach{Stdout: true, Stderr: true})
	if coded := new(control.Error); errors.As(err, &coded) && (coded.Code == 126 || coded.Code == 127) {
		fmt.Fprintln(b.opt.Out, coded.Message)
		return &CommandError{shown, coded.Code}
	}
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // the container goes with the step
	defer stop()
	code, err := attach.Stream(conn, attach.Options{Out: b.opt.Out, Err: b.opt.Out})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	if _, err := b.e.Wait(ctx, c.Container); err != nil {
		return err
	}
	if code != 0 {
		return &CommandError{shown, code}
	}
	return nil
}

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
		p, fi, err := src.resolve(m.Source)
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
	v, err := st.b.e.Volumes().Ensure(cacheVolume(m.CacheID, m.Target))
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

// cachePrefix begins the names of the volumes of cache mounts.
const cachePrefix = "build-cache-"

// IsCache tells whether a volume is one of cache mounts, by its name.
func IsCache(name string) bool { return strings.HasPrefix(name, cachePrefix) }

// cacheVolume names the volume of a cache mount.
func cacheVolume(id, target string) string {
	if id == "" {
		id = filepath.Clean(target)
	}
	return cachePrefix + hash(id)[:16]
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
	file := filepath.Join(st.b.scratch, "secret-"+hash(id)[:16])
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
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
