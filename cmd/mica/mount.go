package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"mica/run"
)

func (a *app) newMountCommand() *cobra.Command {
	var opt run.MountOptions
	c := &cobra.Command{
		Use:   "mount [flags] [IMAGE|CONTAINER [DIR]]",
		Short: "Mount an image or a container where you can look at it",
		Long: `Mount the tree of an image or a container on a directory, and print the directory.

Modes and owners are shown as the image has them and are not enforced: all of it can be read. A mount is
read-only unless --rw is given; with it, changes to an image go into a new container, whose name is printed too,
and changes to a container stay in it. A container that runs is shown as it is at the moment of the mount.

The mount stays when the terminal goes. 'mica umount' takes it away. Without arguments, the mounts are listed.`,
		Example: lines("mica mount debian", "mica mount web ./web-root", "mica mount --rw --name fix debian ./tree",
			"mica umount debian"),
		Args:              cobra.MaximumNArgs(2),
		ValidArgsFunction: a.completeImages(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return listMounts(e)
			}
			if opt.Name != "" && !opt.RW {
				return errors.New("--name is for the container that --rw makes: add --rw")
			}
			opt.Ref = args[0]
			if len(args) == 2 {
				opt.Dir = args[1]
			}
			m, err := e.Mount(cmd.Context(), opt)
			if err != nil {
				return err
			}
			fmt.Fprintln(stdout, m.Dir)
			if m.RW && m.Container != opt.Ref {
				fmt.Fprintf(os.Stderr, "changes go into container %s\n", m.Container)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&opt.RW, "rw", false, "let changes in")
	c.Flags().StringVar(&opt.Name, "name", "", "name of the container that takes the changes to an image")
	return c
}

// listMounts prints what is mounted.
func listMounts(e *run.Engine) error {
	list, err := e.Mounts()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "MOUNTED\tACCESS\tDIRECTORY")
	for _, m := range list {
		access := "ro"
		if m.RW {
			access = "rw"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", m.Ref, access, m.Dir)
	}
	return w.Flush()
}

func (a *app) newUmountCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:     "umount [--all] [DIR|IMAGE|CONTAINER...]",
		Aliases: []string{"unmount"},
		Short:   "Take mounts away",
		Example: lines("mica umount debian", "mica umount ./tree", "mica umount --all"),
		RunE: func(_ *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			if all {
				list, err := e.Mounts()
				if err != nil {
					return err
				}
				args = nil
				for _, m := range list {
					args = append(args, m.Dir)
				}
			} else if len(args) == 0 {
				return errors.New("say what to unmount: a directory, an image or a container, or --all")
			}
			var failed []error
			for _, arg := range args {
				if err := e.Unmount(arg); err != nil {
					failed = append(failed, err)
				}
			}
			return allOf(failed)
		},
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "take all mounts away")
	return c
}
