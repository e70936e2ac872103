package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mica/internal/format"
	"mica/run"
	"mica/run/desktop"
	"mica/run/home"
	"mica/run/record"
)

// desktopFlags are the flags of run and create that join a container to the
// desktop of its user.
type desktopFlags struct {
	desktop bool
	home    string
}

func (f *desktopFlags) register(fl *pflag.FlagSet) {
	fl.BoolVar(&f.desktop, "desktop", false, "join your desktop: display, sound, session bus, graphics devices, fonts, icons, language, timezone, and your own id")
	fl.StringVar(&f.home, "home", "", "home directory: private, shared (yours), cow (a copy-on-write view of yours); default private with --desktop")
}

// set puts what the flags say into options. Whose id and which user namespace
// the container has follows from it, unless that is given.
func (f *desktopFlags) set(fl *pflag.FlagSet, opt *run.CreateOptions) error {
	if !f.desktop && f.home == "" {
		if fl.Changed("home") {
			return errors.New("--home: want private, shared or cow")
		}
		return nil
	}
	mode := record.HomeMode(f.home)
	switch mode {
	case "":
		mode = record.HomePrivate
	case record.HomePrivate, record.HomeShared, record.HomeCOW:
	default:
		return fmt.Errorf("--home %q: want private, shared or cow", f.home)
	}
	dir := filepath.Clean(os.Getenv("HOME"))
	if !filepath.IsAbs(dir) || dir == "/" {
		return fmt.Errorf("HOME=%q is no home directory: set HOME to yours", os.Getenv("HOME"))
	}
	if fi, err := os.Stat(dir); mode != record.HomePrivate && (err != nil || !fi.IsDir()) {
		return fmt.Errorf("--home %s: there is no directory %s: set HOME to yours, or use --home private", mode, dir)
	}
	d := &record.Desktop{Display: f.desktop, Home: mode, HomeDir: dir, AsUser: opt.User == ""}
	for _, kv := range opt.Env {
		key, _, _ := strings.Cut(kv, "=")
		d.Given = append(d.Given, key)
	}
	if !fl.Changed("userns") {
		opt.Host.UserNS = "keep-id"
	}
	opt.Host.Desktop = d
	return nil
}

// check tells before a container is made that it would have no display.
func (f *desktopFlags) check(network string, ports bool) error {
	if !f.desktop {
		return nil
	}
	network, err := chooseNetwork(network, ports)
	if err != nil {
		return err
	}
	return desktop.CheckDisplay(network)
}

func (a *app) homeGroup() *cobra.Command {
	return group("home", "Manage the copy-on-write home directories of containers", a.newHomeApplyCommand(), a.newHomeDiscardCommand())
}

func (a *app) newHomeDiscardCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "discard CONTAINER",
		Short: "Throw away what a container has changed in its home directory",
		Long: `Throw away what a container has changed in its home directory. The container must not run; when it starts again it
sees your home directory as it is then.`,
		Example:           lines("mica diff --home editor", "mica home discard editor"),
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeContainers(stoppedOnly, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			_, c, err := a.find(args[0])
			if err != nil {
				return err
			}
			if err := home.Discard(c); err != nil {
				return err
			}
			fmt.Fprintln(stdout, args[0])
			return nil
		},
	}
}

func (a *app) newHomeApplyCommand() *cobra.Command {
	var opt home.ApplyOptions
	var yes, dryRun bool
	c := &cobra.Command{
		Use:   "apply [flags] CONTAINER",
		Short: "Write what a container has changed in its home directory to yours",
		Long: `Write what a container has changed in its home directory to yours, deletions included, after showing what that is.

The container must not run. Everything is made ready first, and then put in place file by file, each in one step; when a
step fails, those before it are taken back. What you have changed yourself since the container was started is not
overwritten, unless --force says so.`,
		Example: lines("mica home apply editor", "mica home apply --dry-run editor", "mica home apply -y editor"),
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeContainers(stoppedOnly, 1),
	}
	fl := c.Flags()
	fl.BoolVarP(&yes, "yes", "y", false, "do not ask")
	fl.BoolVar(&dryRun, "dry-run", false, "show what would be written, and stop")
	fl.BoolVar(&opt.Force, "force", false, "overwrite what you have changed since")
	c.RunE = tidily(func(c *cobra.Command, args []string) error {
		_, ct, err := a.find(args[0])
		if err != nil {
			return err
		}
		opt.Confirm = func(s *home.ApplySummary) error {
			for _, i := range s.Items {
				fmt.Fprintln(stdout, i.Kind, format.Printable(i.Path))
			}
			fmt.Fprintln(stdout, s)
			if dryRun || len(s.Items) == 0 {
				return home.ErrNotApplied
			}
			if yes {
				return nil
			}
			return ask(c.Context(), "This writes these changes to "+s.Dir+".", "add -y to go ahead", "nothing was written")
		}
		if err := home.Apply(c.Context(), ct, opt); err != nil && !errors.Is(err, home.ErrNotApplied) {
			return err
		}
		return nil
	})
	return c
}
