package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"mica/internal/version"
	"mica/layerstore"
	"mica/run"
	"mica/run/record"
	"mica/run/supervise"
)

// app is what all commands share.
type app struct {
	root   string // of the store; empty: the default
	engine *run.Engine

	waiting *supervise.Waiting // see newRootCommand
}

// open opens the store and the containers on first use.
func (a *app) open() (*run.Engine, error) {
	if a.engine != nil {
		return a.engine, nil
	}
	root, err := a.storeRoot()
	if err != nil {
		return nil, err
	}
	a.engine, err = run.Open(root)
	return a.engine, err
}

// find finds a container.
func (a *app) find(ref string) (*run.Engine, *record.Container, error) {
	e, err := a.open()
	if err != nil {
		return nil, nil, err
	}
	c, err := e.Containers.Find(ref)
	return e, c, err
}

// storeRoot is where the store is: --root, $MICA_ROOT, or the default.
func (a *app) storeRoot() (string, error) {
	root := a.root
	if root == "" {
		root = os.Getenv("MICA_ROOT")
	}
	if root == "" {
		return layerstore.DefaultRoot()
	}
	return filepath.Abs(root)
}

// store opens the image store.
func (a *app) store() (*layerstore.Store, error) {
	e, err := a.open()
	if err != nil {
		return nil, err
	}
	return e.Store()
}

// The groups of the short commands in the help.
const (
	groupContainer = "container"
	groupImage     = "image"
	groupTree      = "tree"
	groupManage    = "manage"
)

// newRootCommand builds the command line: all of it, or only what a line that begins with first needs. waiting is for
// the container that a run starts; it may be nil.
func newRootCommand(first string, waiting *supervise.Waiting) *cobra.Command {
	a := &app{waiting: waiting}
	root := &cobra.Command{
		Use:   "mica",
		Short: "Run, mount, commit and inspect container images: no root, no daemon",
		Long: `mica runs, mounts, commits and inspects container images with no root and no daemon.

Images are kept as an OCI layout in the store, by default ~/.local/share/mica. Containers run in namespaces of the
calling user over mica's own union filesystem; each is looked after by a process of its own.

What Docker and Podman take before the command to find a daemon (-H, --context, --config, -l, -D) has no effect.`,
		Example: `  mica import debian.tar debian
  mica run -it debian
  mica commit -m "Add node" CONTAINER node-base
  mica history node-base
  mica run --rm host        # this machine's own root, copy-on-write`,
		Version:           version.Short(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetUsageTemplate(strings.NewReplacer(
		"{{if .Runnable}}\n  {{.UseLine}}{{end}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}\n  {{.UseLine}}{{end}}",
		"{{.CommandPath}} [command]{{end}}", "{{.CommandPath}} COMMAND{{end}}",
	).Replace(root.UsageTemplate()))
	root.SetVersionTemplate("mica version {{.Version}}\n")
	root.PersistentFlags().StringVar(&a.root, "root", "", "directory of the store (default $MICA_ROOT or ~/.local/share/mica)")
	root.AddGroup(
		&cobra.Group{ID: groupContainer, Title: "Containers:"},
		&cobra.Group{ID: groupImage, Title: "Images:"},
		&cobra.Group{ID: groupTree, Title: "Filesystems:"},
		&cobra.Group{ID: groupManage, Title: "Management:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	switch first {
	// To build the other commands would take as long as to start a container takes elsewhere in mica.
	case "run":
		add(groupContainer, a.newRunCommand())
	case "exec":
		add(groupContainer, a.orLatest(a.newExecCommand()))
	}
	root.SetOut(stdout)
	root.SetFlagErrorFunc(pointToHelp)
	if root.HasSubCommands() {
		root.CompletionOptions.DisableDefaultCmd = true
		explainArgs(root)
		return root
	}
	add(groupContainer, a.containerCommands(true)...)
	add(groupImage, a.imageCommands(true)...)
	add(groupTree, a.treeCommands()...)
	add(groupManage, a.containerGroup(), a.imageGroup(), a.builderGroup(), a.volumeGroup(), a.homeGroup(), a.systemGroup(), a.newVersionCommand(), a.newInfoCommand(),
		newLoginCommand(), newLogoutCommand())
	root.AddCommand(docsCommands()...)
	explainArgs(root)
	return root
}

// pointToHelp adds where to read on to an error in the use of a command.
func pointToHelp(c *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	return fmt.Errorf("%w; see \"%s --help\"", plainNumber(err), c.CommandPath())
}

// plainNumber says what a flag takes, instead of how the program reads it.
func plainNumber(err error) error {
	said := err.Error()
	at := strings.LastIndex(said, ": strconv.")
	switch {
	case at < 0:
		return err
	case strings.HasSuffix(said, "value out of range"):
		return errors.New(said[:at] + ": the number is out of range")
	case strings.HasPrefix(said[at:], ": strconv.ParseBool"):
		return errors.New(said[:at] + ": want true or false")
	}
	return errors.New(said[:at] + ": want a number")
}

// explainArgs has all commands point to their help when the number of arguments is wrong.
func explainArgs(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil && c.HasSubCommands() {
				return pointToHelp(c, err) // an unknown command
			} else if err != nil {
				return pointToHelp(c, fmt.Errorf("%s given; want: %s", countArguments(args), c.UseLine()))
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		explainArgs(sub)
	}
}

func countArguments(args []string) string {
	switch len(args) {
	case 0:
		return "no argument"
	case 1:
		return "one argument"
	}
	return fmt.Sprintf("%d arguments", len(args))
}

// group makes a command that only has others below it.
func group(use, short string, cmds ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	g.AddCommand(cmds...)
	return g
}

// lines joins the lines of an example.
func lines(l ...string) string { return "  " + strings.Join(l, "\n  ") }
