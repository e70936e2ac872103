package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mica/internal/signame"
	"mica/run"
	"mica/run/attach"
	"mica/run/control"
	"mica/run/record"
	"mica/run/supervise"
)

// each does one thing with every container named, reports what failed, and
// prints the names of the others.
func (a *app) each(args []string, do func(*run.Engine, *record.Container) error) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	var failed []error
	for _, ref := range args {
		c, err := e.Containers.Find(ref)
		if err == nil {
			err = do(e, c)
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintln(stdout, ref)
	}
	return allOf(failed)
}

// atOnce is each for things that take their time beside each other.
func (a *app) atOnce(args []string, do func(*run.Engine, *record.Container) error) error {
	e, err := a.open()
	if err != nil {
		return err
	}
	errs := make([]error, len(args))
	var wg sync.WaitGroup
	for i, ref := range args {
		wg.Go(func() {
			c, err := e.Containers.Find(ref)
			if err == nil {
				err = do(e, c)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	var failed []error
	for i, ref := range args {
		if errs[i] != nil {
			failed = append(failed, errs[i])
		} else {
			fmt.Fprintln(stdout, ref)
		}
	}
	return allOf(failed)
}

// allOf prints all errors but the last, which it gives back.
func allOf(errs []error) error {
	for i, err := range errs {
		if i == len(errs)-1 {
			return err
		}
		complain(err)
	}
	return nil
}

func (a *app) newStartCommand() *cobra.Command {
	var toOutput, interactive bool
	var detachKeys string
	var sel selection
	c := &cobra.Command{
		Use:               "start [flags] CONTAINER...",
		Short:             "Start containers that are not running",
		Example:           lines("mica start db", "mica start -ai shell", "mica start --filter should-start-on-boot=true"),
		ValidArgsFunction: a.completeContainers(stoppedOnly, 0),
	}
	c.Flags().BoolVarP(&toOutput, "attach", "a", false, "attach to output and pass signals on")
	c.Flags().BoolVarP(&interactive, "interactive", "i", false, "attach to input too")
	c.Flags().StringVar(&detachKeys, "detach-keys", attach.DefaultDetachKeys, "keys that leave the container running")
	sel.register(c, "", "that do not run")
	c.RunE = func(c *cobra.Command, args []string) error {
		args, err := sel.names(a, args, func(ct *record.Container) bool { return stoppedOnly(ct) && ct.Broken == nil })
		if err != nil {
			return err
		}
		if !toOutput && !interactive {
			return a.each(args, func(e *run.Engine, ct *record.Container) error { return startDetached(c.Context(), e, ct) })
		}
		if len(args) != 1 {
			return errors.New("only one container can be attached to: name one, or leave -a and -i out")
		}
		keys, err := attach.ParseDetachKeys(detachKeys)
		if err != nil {
			return err
		}
		e, ct, err := a.find(args[0])
		if err != nil {
			return err
		}
		att := &control.Attach{Stdin: interactive && ct.Config.OpenStdin, Stdout: true, Stderr: true}
		if ct.Config.TTY {
			att.Size = attach.TerminalSize(os.Stdin)
		}
		conn, err := e.Restart(c.Context(), ct, att)
		if errors.Is(err, run.ErrRunning) {
			conn, err = e.Attach(ct, att)
		}
		if err != nil {
			return err
		}
		return finishAttach(attach.Stream(conn, streams(att, ct.Config.TTY, true, keys)))
	}
	return c
}

// startDetached starts a container unless it runs.
func startDetached(ctx context.Context, e *run.Engine, c *record.Container) error {
	if c.State.Alive() {
		return nil
	}
	e.Use(supervise.Prepare())
	conn, err := e.Restart(ctx, c, nil)
	if errors.Is(err, run.ErrRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	return conn.Close()
}

// stopFlags are the flags of stop and restart.
type stopFlags struct {
	timeout float64
	signal  string
}

func (f *stopFlags) register(c *cobra.Command) {
	c.Flags().Float64VarP(&f.timeout, "timeout", "t", 10, "seconds to wait before killing; -1 for ever")
	c.Flags().Float64Var(&f.timeout, "time", 10, "as --timeout")
	c.Flags().StringVarP(&f.signal, "signal", "s", "", "signal to send")
	_ = c.Flags().MarkHidden("time")
}

// options puts the flags together.
func (f *stopFlags) options(c *cobra.Command) (opt run.StopOptions, err error) {
	if c.Flags().Changed("timeout") || c.Flags().Changed("time") {
		if math.IsNaN(f.timeout) || math.IsInf(f.timeout, 0) {
			return opt, fmt.Errorf("--timeout %g: want seconds, or -1 for ever", f.timeout)
		}
		opt.Timeout = &f.timeout
	}
	if f.signal != "" {
		sig, err := signame.Parse(f.signal)
		if err != nil {
			return opt, err
		}
		opt.Signal = int(sig)
	}
	return opt, nil
}

func (a *app) newStopCommand() *cobra.Command {
	var f stopFlags
	var sel selection
	c := &cobra.Command{
		Use:               "stop [flags] CONTAINER...",
		Short:             "Stop running containers",
		Example:           lines("mica stop web", "mica stop -t 2 web db", "mica stop --all"),
		ValidArgsFunction: a.completeContainers(runningOnly, 0),
	}
	f.register(c)
	sel.register(c, "a", "that run")
	sel.registerIgnore(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		opt, err := f.options(c)
		if err != nil {
			return err
		}
		if args, err = sel.names(a, args, runningOnly); err != nil {
			return err
		}
		return a.atOnce(args, func(e *run.Engine, ct *record.Container) error { return e.Stop(c.Context(), ct, opt) })
	}
	return c
}

func (a *app) newRestartCommand() *cobra.Command {
	var f stopFlags
	var sel selection
	c := &cobra.Command{
		Use:               "restart [flags] CONTAINER...",
		Short:             "Stop containers and start them again",
		Example:           lines("mica restart web", "mica restart --all"),
		ValidArgsFunction: a.completeContainers(anyState, 0),
	}
	f.register(c)
	sel.register(c, "a", "of them, running or not")
	c.RunE = func(c *cobra.Command, args []string) error {
		opt, err := f.options(c)
		if err != nil {
			return err
		}
		opt.Keep = true
		if args, err = sel.names(a, args, func(ct *record.Container) bool { return ct.Broken == nil }); err != nil {
			return err
		}
		return a.each(args, func(e *run.Engine, ct *record.Container) error {
			if err := e.Stop(c.Context(), ct, opt); err != nil {
				return err
			}
			if err := ct.Refresh(); err != nil {
				return err
			}
			return startDetached(c.Context(), e, ct)
		})
	}
	return c
}

func (a *app) newKillCommand() *cobra.Command {
	var signal string
	var sel selection
	c := &cobra.Command{
		Use:               "kill [flags] CONTAINER...",
		Short:             "Send a signal to running containers",
		Example:           lines("mica kill web", "mica kill -s HUP web"),
		ValidArgsFunction: a.completeContainers(runningOnly, 0),
	}
	c.Flags().StringVarP(&signal, "signal", "s", "KILL", "signal to send")
	sel.register(c, "a", "that run")
	c.RunE = func(_ *cobra.Command, args []string) error {
		sig, err := signame.Parse(signal)
		if err != nil {
			return err
		}
		if args, err = sel.names(a, args, runningOnly); err != nil {
			return err
		}
		return a.each(args, func(e *run.Engine, ct *record.Container) error { return e.Signal(ct, sig) })
	}
	return c
}

// newPauseCommand makes pause, or unpause.
func (a *app) newPauseCommand(pause bool) *cobra.Command {
	var sel selection
	paused := func(ct *record.Container) bool { return ct.State.Status == record.Paused }
	want, only := func(ct *record.Container) bool { return runningOnly(ct) && !paused(ct) }, "that run"
	c := &cobra.Command{
		Use: "pause [flags] CONTAINER...", Short: "Stop all processes of containers until they are unpaused", Example: lines("mica pause build", "mica pause --all"),
		ValidArgsFunction: a.completeContainers(runningOnly, 0),
	}
	if !pause {
		c.Use, c.Short, c.Example = "unpause [flags] CONTAINER...", "Let paused containers go on", lines("mica unpause build", "mica unpause --all")
		want, only = paused, "that are paused"
	}
	sel.register(c, "a", only)
	c.RunE = func(_ *cobra.Command, args []string) error {
		args, err := sel.names(a, args, want)
		if err != nil {
			return err
		}
		return a.each(args, func(e *run.Engine, ct *record.Container) error { return e.SetPaused(ct, pause) })
	}
	return c
}

func (a *app) newRenameCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "rename CONTAINER NAME",
		Short:             "Give a container another name",
		Example:           lines("mica rename calm_garnet web"),
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeContainers(anyState, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			e, ct, err := a.find(args[0])
			if err != nil {
				return err
			}
			return e.Containers.Rename(ct, args[1])
		},
	}
}

func (a *app) newAttachCommand() *cobra.Command {
	var noStdin, sigProxy bool
	var detachKeys string
	c := &cobra.Command{
		Use:               "attach [flags] CONTAINER",
		Short:             "Connect this terminal to a running container",
		Example:           lines("mica attach shell"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeContainers(runningOnly, 1),
	}
	c.Flags().BoolVar(&noStdin, "no-stdin", false, "do not attach to input")
	c.Flags().BoolVar(&sigProxy, "sig-proxy", true, "pass signals on")
	c.Flags().StringVar(&detachKeys, "detach-keys", attach.DefaultDetachKeys, "keys that leave the container running")
	c.RunE = func(_ *cobra.Command, args []string) error {
		keys, err := attach.ParseDetachKeys(detachKeys)
		if err != nil {
			return err
		}
		e, ct, err := a.find(args[0])
		if err != nil {
			return err
		}
		att := &control.Attach{Stdin: ct.Config.OpenStdin && !noStdin, Stdout: true, Stderr: true}
		if ct.Config.TTY && att.Stdin && !term.IsTerminal(0) {
			return errors.New("the input device is not a terminal, and the container has one: add --no-stdin")
		}
		if ct.Config.TTY {
			att.Size = attach.TerminalSize(os.Stdin)
		}
		conn, err := e.Attach(ct, att)
		if err != nil {
			return err
		}
		return finishAttach(attach.Stream(conn, streams(att, ct.Config.TTY, sigProxy, keys)))
	}
	return c
}
