package main

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) newTopCommand() *cobra.Command {
	c := &cobra.Command{
		Use:               "top CONTAINER [PS OPTIONS]",
		Short:             "List the processes of a container",
		Example:           lines("mica top web", "mica top web -o pid,comm,rss"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeContainers(runningOnly, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			ct, err := e.Containers.Find(args[0])
			if err != nil {
				return err
			}
			pids, err := e.Pids(ct)
			if err != nil {
				return err
			}
			options := args[1:]
			if len(options) == 0 {
				options = []string{"-ef"}
			}
			return showProcesses(pids, options)
		},
	}
	c.Flags().SetInterspersed(false) // those behind the container are for ps
	return c
}

// showProcesses has ps list all processes and prints the lines of some. ps must show the process id.
func showProcesses(pids []int, options []string) error {
	out, err := exec.Command("ps", options...).Output()
	if err != nil {
		return fmt.Errorf("list processes with ps: %w", err)
	}
	wanted := make(map[string]bool, len(pids))
	for _, pid := range pids {
		wanted[strconv.Itoa(pid)] = true
	}
	column := -1
	for i, line := range strings.Split(strings.TrimRight(string(out), "\n"), "\n") {
		fields := strings.Fields(line)
		if i == 0 {
			for j, name := range fields {
				if name == "PID" {
					column = j
				}
			}
			if column < 0 {
				return fmt.Errorf("ps shows no column PID: add pid to its options")
			}
			fmt.Fprintln(stdout, line)
			continue
		}
		if column < len(fields) && wanted[fields[column]] {
			fmt.Fprintln(stdout, line)
		}
	}
	return nil
}

func (a *app) newPortCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "port CONTAINER [PORT[/PROTOCOL]]",
		Short:             "List the ports of the host that lead to a container",
		Example:           lines("mica port web", "mica port web 80"),
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeContainers(anyState, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			e, err := a.open()
			if err != nil {
				return err
			}
			ct, err := e.Containers.Find(args[0])
			if err != nil {
				return err
			}
			found := false
			for _, p := range ct.Config.Host.Ports {
				side := containerSide(p)
				if len(args) == 1 {
					fmt.Fprintln(stdout, side, "->", hostSide(p))
					continue
				}
				if args[1] == side || args[1]+"/tcp" == side {
					fmt.Fprintln(stdout, hostSide(p))
					found = true
				}
			}
			if len(args) == 2 && !found {
				return fmt.Errorf("port %s of container %s is not published", args[1], ct.Config.Name)
			}
			return nil
		},
	}
}
