package build

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

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
	host.Log = record.Log{None: true}
	if err := setNetwork(&host, instructions.GetNetwork(cmd)); err != nil {
		return err
	}
	ms, err := st.mounts(ctx, cmd)
	if err != nil {
		return err
	}
	args, shown := st.runArgs(cmd, ms)
	text := "RUN " + shown
	if names := st.args.list(); len(names) > 0 {
		text = fmt.Sprintf("RUN |%d %s %s", len(names), strings.Join(names, " "), shown)
	}
	return st.layer(ctx, layer{
		text: text, shown: cmd.String() + heredocNote(cmd.Files), depends: []any{args, ms.depends, host.Network, st.b.opt.Host},
		options: func(ctx context.Context) (run.CreateOptions, error) {
			mounts, env, err := ms.prepare(ctx)
			cfg := layerstore.ContainerConfig{Cmd: args, Env: append(st.runEnv(), env...), User: st.cfg.User, WorkingDir: st.cfg.WorkingDir}
			host.Mounts = slices.Concat(host.Mounts, mounts)
			return run.CreateOptions{Step: record.StepCommand, Config: &cfg, Command: args, Host: host}, err
		},
		work: func(ctx context.Context, c *run.Created) error { return st.b.command(ctx, c, shown) },
	})
}

// runArgs is the command line of RUN and how a history shows it. A here-document is the shell's input: the script itself where
// the line is nothing else, and a program of its own, mounted for that, where it then begins with #!.
func (st *stage) runArgs(cmd *instructions.RunCommand, ms *stepMounts) (args []string, shown string) {
	if !cmd.PrependShell {
		return cmd.CmdLine, strings.Join(cmd.CmdLine, " ")
	}
	line := cmd.ShellDependantCmdLine
	if len(line.Files) == 0 {
		args = st.cfg.CommandLine(&line)
		return args, strings.Join(args, " ")
	}
	shown = strings.Join(line.CmdLine, " ") + heredocNote(line.Files)
	script := line.Files[0]
	if script.Chomp {
		script.Data = parser.ChompHeredocContent(script.Data)
	}
	switch alone := len(line.Files) == 1 && len(line.CmdLine) == 1 && parser.MustParseHeredoc(line.CmdLine[0]) != nil; {
	case alone && strings.HasPrefix(script.Data, "#!"):
		target := "/dev/pipes/" + script.Name
		ms.add(func(context.Context) (record.Mount, error) {
			file, err := st.b.write("script", []byte(script.Data), 0o755)
			return record.Mount{Type: record.MountBind, Source: file, Target: target, ReadOnly: true}, err
		})
		ms.depends = append(ms.depends, script.Data)
		return []string{target}, shown
	case alone:
		line.CmdLine = []string{script.Data}
	default:
		text := strings.Join(line.CmdLine, " ")
		for _, f := range line.Files {
			text += "\n" + f.Data + f.Name
		}
		line.CmdLine = []string{text}
	}
	return st.cfg.CommandLine(&line), shown
}

// heredocNote shows how the first of some here-documents begins.
func heredocNote(files []instructions.ShellInlineFile) string {
	if len(files) == 0 {
		return ""
	}
	return " (" + firstLine(strings.TrimSpace(files[0].Data)) + ")"
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
