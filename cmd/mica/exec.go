package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mica/run"
	"mica/run/attach"
	"mica/run/control"
	"mica/run/logs"
	"mica/run/record"
)

func (a *app) newExecCommand() *cobra.Command {
	var x control.Exec
	var interactive bool
	var envFiles []string
	var detachKeys string
	c := &cobra.Command{
		Use:               "exec [flags] CONTAINER COMMAND [ARG...]",
		Short:             "Run a further command in a running container",
		Example:           lines("mica exec -it web bash", "mica exec -u postgres -w /tmp db psql -c 'select 1'"),
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: a.completeContainers(runningOnly, 1),
	}
	fl := c.Flags()
	fl.SetInterspersed(false)
	fl.BoolVarP(&interactive, "interactive", "i", false, "keep standard input open")
	fl.BoolVarP(&x.TTY, "tty", "t", false, "give the command a terminal")
	fl.BoolVarP(&x.Detach, "detach", "d", false, "run in the background")
	fl.StringArrayVarP(&x.Env, "env", "e", nil, "set a variable NAME=VALUE, or pass NAME on")
	fl.StringArrayVar(&envFiles, "env-file", nil, "read variables from a file, one per line")
	fl.StringVarP(&x.User, "user", "u", "", "user, and group after a colon, by name or number")
	fl.StringVarP(&x.WorkingDir, "workdir", "w", "", "working directory")
	fl.BoolVar(&x.Privileged, "privileged", false, "all capabilities of the container's user namespace; SYS_ADMIN and SYS_PTRACE only if it was started with one of them, or mica's executable is not yours")
	fl.StringVar(&detachKeys, "detach-keys", attach.DefaultDetachKeys, "keys that leave the command running")
	c.RunE = func(_ *cobra.Command, args []string) error {
		keys, err := attach.ParseDetachKeys(detachKeys)
		if err != nil {
			return err
		}
		if x.TTY && interactive && !x.Detach && !term.IsTerminal(0) {
			return errNoTerminal
		}
		if x.Env, err = readEnv(envFiles, x.Env); err != nil {
			return err
		}
		if x.Env, err = run.ResolveEnv(x.Env); err != nil {
			return err
		}
		e, ct, err := a.find(args[0])
		if err != nil {
			return err
		}
		if x.WorkingDir != "" && !path.IsAbs(x.WorkingDir) {
			return fmt.Errorf("--workdir %q: want an absolute path", x.WorkingDir)
		}
		x.Args, x.Stdin = args[1:], interactive && !x.Detach
		if x.TTY {
			x.Size = attach.TerminalSize(os.Stdin)
		}
		conn, err := e.Exec(ct, &x)
		if err != nil {
			return err
		}
		if x.Detach {
			return conn.Close()
		}
		att := &control.Attach{Stdin: x.Stdin, Stdout: true, Stderr: true}
		return finishAttach(attach.Stream(conn, streams(att, x.TTY, true, keys)))
	}
	return c
}

func (a *app) newLogsCommand() *cobra.Command {
	var opt logs.Options
	var tail, since, until string
	c := &cobra.Command{
		Use:               "logs [flags] CONTAINER...",
		Short:             "Print what a container's command has written",
		Example:           lines("mica logs -f --tail 20 web", "mica logs --since 10m -t web"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeContainers(anyState, 0),
	}
	c.Flags().Bool("details", false, "accepted; there are none")
	c.Flags().BoolVarP(&opt.Follow, "follow", "f", false, "go on as more is written")
	c.Flags().BoolVarP(&opt.Timestamps, "timestamps", "t", false, "show when each line was written")
	c.Flags().StringVarP(&tail, "tail", "n", "all", "lines to show from the end")
	c.Flags().StringVar(&since, "since", "", "leave out what is older: a time, or a duration such as 10m")
	c.Flags().StringVar(&until, "until", "", "leave out what is newer: a time, or a duration such as 10m")
	c.RunE = func(c *cobra.Command, args []string) error {
		opt.Tail = -1
		var err error
		if tail != "all" {
			if opt.Tail, err = strconv.Atoi(tail); err != nil {
				return fmt.Errorf("--tail %q: want a number of lines, or all", tail)
			}
		}
		if opt.Since, err = parseMoment(since); err != nil {
			return err
		}
		if opt.Until, err = parseMoment(until); err != nil {
			return err
		}
		e, err := a.open()
		if err != nil {
			return err
		}
		var list []*record.Container
		for _, ref := range args {
			ct, err := e.Containers.Find(ref)
			if err != nil {
				return err
			}
			list = append(list, ct)
		}
		return printLogs(c.Context(), list, opt)
	}
	return c
}

// printLogs prints logs one after the other, or together those that are followed.
func printLogs(ctx context.Context, list []*record.Container, opt logs.Options) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, ct := range list {
		show := func() { errs[i] = logs.Show(ctx, ct, opt, stdout, os.Stderr) }
		if opt.Follow {
			wg.Go(show)
		} else {
			show()
		}
	}
	wg.Wait()
	return allOf(slices.DeleteFunc(errs, func(err error) bool { return err == nil }))
}
