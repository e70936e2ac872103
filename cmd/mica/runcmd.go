package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mica/internal/signals"
	"mica/run"
	"mica/run/attach"
	"mica/run/control"
	"mica/run/record"
)

func (a *app) newRunCommand() *cobra.Command {
	var f containerFlags
	var sigProxy bool
	var detachKeys string
	c := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND [ARG...]]",
		Short: "Make a container of an image and run a command in it",
		Long: `Make a container of an image and run a command in it: the image's own, or the one given.

The image "host" is built in: it is this machine's own root, read-only, with a copy-on-write layer over it.
With --desktop programs show their windows on your display, Wayland or X11, and have sound, the session bus, the graphics
devices, your fonts, language and timezone. They run as you, in a home directory of their own unless --home says otherwise:
with "cow" they see yours, and what they change there stays with the container, for "mica diff --home" to
show and "mica home apply" or "mica home discard" to settle. A program that shares your display and session bus can
do much of what you can: --desktop is for convenience, not for programs that you do not trust.

Flags of Docker and Podman for what mica does not do and a container can do without, such as --cpu-shares and --memory-swap,
are accepted and said to have no effect.

The exit code is the command's; 125 when mica itself failed, 126 and 127 when the command cannot be run or found.`,
		Example: lines("mica run -it debian", "mica run --rm debian cat /etc/os-release",
			"mica run -d --name web -p 8080:80 -v site:/srv nginx", "mica run --rm host sh -c 'rm -rf /usr; ls /'",
			"mica run --rm --desktop gui xclock", "mica run --name editor --desktop --home cow gui gedit"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeImages(1),
	}
	fl := c.Flags()
	fl.Bool("help", false, "help for run")
	f.register(fl)
	fl.BoolVarP(&f.detached, "detach", "d", false, "run in the background and print the container's ID")
	fl.BoolVar(&sigProxy, "sig-proxy", true, "pass signals on to the command")
	fl.StringVar(&detachKeys, "detach-keys", attach.DefaultDetachKeys, "keys that leave the container running")
	c.RunE = func(c *cobra.Command, args []string) error {
		keys, err := attach.ParseDetachKeys(detachKeys)
		if err != nil {
			return err
		}
		if f.tty && f.interactive && !f.detached && !term.IsTerminal(0) {
			return errNoTerminal
		}
		if err := f.desk.check(f.network, f.publishes()); err != nil {
			return err
		}
		ctx, caught := signals.Catch(c.Context())
		defer caught.Release()
		e, created, err := a.createUnlessEnded(ctx, caught, c, &f, args)
		if err != nil {
			return err
		}
		e.Use(a.waiting)
		if f.detached {
			return startInBackground(e, created)
		}
		att := f.attachment()
		conn, err := e.Start(created, att)
		if err != nil {
			return err
		}
		if !att.Stdout && !att.Stderr {
			fmt.Fprintln(stdout, created.ID()) // as Docker does, to find the output by
		}
		opt := streams(att, f.tty, sigProxy, keys)
		opt.Signals = caught
		if f.tty {
			return finishAttach(attach.Stream(conn, opt))
		}
		return finishAttach(streamOrStop(e, created, conn, opt))
	}
	return c
}

var errNoTerminal = errors.New("the input device is not a terminal: leave -t out")

// streamOrStop is [attach.Stream] for a container that is of no use without its output: it is stopped when that cannot be
// written, as by yes in "mica run debian yes | head -1".
func streamOrStop(e *run.Engine, created *run.Created, conn *control.Conn, opt attach.Options) (int, error) {
	pipe := make(chan os.Signal, 1)
	signal.Notify(pipe, syscall.SIGPIPE) // which would end this process before it could do so
	defer signal.Stop(pipe)
	code, err := attach.Stream(conn, opt)
	if errors.Is(err, attach.ErrOutput) {
		conn.Close() // the process is not to wait for this one
		err = errors.Join(err, e.Stop(context.Background(), created.Container, run.StopOptions{}))
	}
	return code, err
}

func startInBackground(e *run.Engine, created *run.Created) error {
	conn, err := e.Start(created, nil)
	if err != nil {
		return err
	}
	conn.Close()
	fmt.Fprintln(stdout, created.ID())
	return nil
}

// takeBack removes a container that was not to be made after all.
func (f *containerFlags) takeBack(e *run.Engine, created *run.Created) error {
	created.Lock.Release()
	if f.cidfile != "" {
		os.Remove(f.cidfile)
	}
	return e.Remove(context.Background(), created.Container, run.RemoveOptions{Force: true, Volumes: true})
}

// createUnlessEnded is create that leaves nothing behind when a signal asks to end.
func (a *app) createUnlessEnded(ctx context.Context, caught *signals.Caught, c *cobra.Command, f *containerFlags, args []string) (*run.Engine, *run.Created, error) {
	e, created, err := a.create(ctx, c, f, args)
	if code, ended := caught.Ended(); ended {
		if err == nil {
			err = f.takeBack(e, created)
		}
		return nil, nil, errors.Join(err, exitCode(code))
	}
	return e, created, err
}

// create makes the container that flags and arguments describe, and its cidfile.
func (a *app) create(ctx context.Context, c *cobra.Command, f *containerFlags, args []string) (*run.Engine, *run.Created, error) {
	opt, err := f.options(c, args)
	if err != nil {
		return nil, nil, err
	}
	e, err := a.open()
	if err != nil {
		return nil, nil, err
	}
	if f.replace && f.name != "" {
		if old, err := e.Containers.Find(f.name); err == nil && old.Config.Name == record.PlainName(f.name) {
			if err := e.Remove(ctx, old, run.RemoveOptions{Force: true}); err != nil {
				return nil, nil, err
			}
		}
	}
	var cidfile *os.File
	if f.cidfile != "" {
		cidfile, err = os.OpenFile(f.cidfile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return nil, nil, fmt.Errorf("write the container's ID: %w; remove the file or name another", err)
		}
		defer cidfile.Close()
	}
	created, err := a.createPulled(ctx, e, f, opt)
	if err != nil {
		if cidfile != nil {
			os.Remove(f.cidfile)
		}
		return nil, nil, err
	}
	if cidfile != nil {
		if _, err := cidfile.WriteString(created.ID()); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("write the container's ID: %w", err), created.Remove(created.Lock))
		}
	}
	return e, created, nil
}

// attachment is what run attaches to: all, or what -a names.
func (f *containerFlags) attachment() *control.Attach {
	att := new(control.Attach)
	if f.tty {
		att.Size = attach.TerminalSize(os.Stdin)
	}
	if len(f.attach) == 0 {
		att.Stdin, att.Stdout, att.Stderr = f.interactive, true, true
		return att
	}
	for _, name := range f.attach {
		switch strings.ToLower(name) {
		case "stdin":
			att.Stdin = f.interactive
		case "stdout":
			att.Stdout = true
		case "stderr":
			att.Stderr = true
		}
	}
	return att
}

// streams connects this process's own streams.
func streams(att *control.Attach, tty, sigProxy bool, keys []byte) attach.Options {
	opt := attach.Options{TTY: tty, SigProxy: sigProxy && !tty, DetachKeys: keys}
	if att.Stdin {
		opt.In = os.Stdin
	}
	if !tty {
		opt.DetachKeys = nil
	}
	if att.Stdout {
		opt.Out = os.Stdout
	}
	if att.Stderr {
		opt.Err = os.Stderr
	}
	return opt
}

// finishAttach turns the end of an attached process into this one's.
func finishAttach(code int, err error) error {
	if errors.Is(err, attach.ErrDetached) {
		return nil
	}
	if err != nil {
		return err
	}
	if code != 0 {
		return exitCode(code)
	}
	return nil
}

func (a *app) newCreateCommand() *cobra.Command {
	var f containerFlags
	c := &cobra.Command{
		Use:               "create [flags] IMAGE [COMMAND [ARG...]]",
		Short:             "Make a container without starting it",
		Example:           lines("mica create --name db -v data:/var/lib/data debian sleep infinity", "mica start db"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeImages(1),
	}
	c.Flags().Bool("help", false, "help for create")
	f.register(c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error {
		ctx, caught := signals.Catch(c.Context())
		defer caught.Release()
		_, created, err := a.createUnlessEnded(ctx, caught, c, &f, args)
		if err != nil {
			return err
		}
		created.Lock.Release()
		fmt.Fprintln(stdout, created.ID())
		return nil
	}
	return c
}
