package main

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) newTopCommand() *cobra.Command {
	c := &cobra.Command{
		Use:               "top CONTAINER [PS OPTIONS]",
		Short:             "List the processes of a container",
		Example:           lines("mica top web", "mica top web -o pid,comm,rss", "mica top web pid user args"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeContainers(runningOnly, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			e, ct, err := a.find(args[0])
			if err != nil {
				return err
			}
			pids, err := e.Pids(ct)
			if err != nil {
				return err
			}
			return showProcesses(pids, psOptions(args[1:]))
		},
	}
	c.Flags().SetInterspersed(false) // those behind the container are for ps
	return c
}

// psFields are what Podman calls the columns of top, without dashes before them.
var psFields = []string{"args", "comm", "etime", "group", "nice", "pcpu", "pgid", "pid", "ppid", "rgroup", "rss", "ruser", "stime", "state", "time", "tty", "user", "vsz"}

// psOptions are the options of ps for what stands behind the container.
func psOptions(args []string) []string {
	switch unknown := func(s string) bool { return !slices.Contains(psFields, s) }; {
	case len(args) == 0:
		return []string{"-ef"}
	case !slices.ContainsFunc(args, unknown):
		return []string{"-o", strings.Join(args, ",")}
	}
	return args
}

// showProcesses has ps list processes.
func showProcesses(pids []int, options []string) error {
	if len(pids) > 0 { // the caller's are listed otherwise, unless an option says more
		list := strings.Trim(strings.ReplaceAll(fmt.Sprint(pids), " ", ","), "[]")
		if out, err := ps(slices.Concat(options, []string{"-q", list})); err == nil {
			_, err = stdout.Write(out)
			return err
		}
	}
	// Some options, such as f, do not go with a selection, and a process may have ended since.
	out, err := ps(options)
	if err != nil {
		return err
	}
	return showLines(string(out), pids)
}

// showLines prints the lines of some processes. ps must show the process id.
func showLines(out string, pids []int) error {
	column := -1
	for i, line := range strings.Split(strings.TrimRight(out, "\n"), "\n") {
		fields := strings.Fields(line)
		if i == 0 {
			if column = slices.Index(fields, "PID"); column < 0 {
				return fmt.Errorf("ps shows no column PID: add pid to its options")
			}
			fmt.Fprintln(stdout, line)
			continue
		}
		if column >= len(fields) {
			continue
		}
		if pid, err := strconv.Atoi(fields[column]); err == nil && slices.Contains(pids, pid) {
			fmt.Fprintln(stdout, line)
		}
	}
	return nil
}

func ps(options []string) ([]byte, error) {
	out, err := exec.Command("ps", options...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		said, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		return nil, fmt.Errorf("list processes: ps %s: %s", strings.Join(options, " "), strings.TrimPrefix(said, "error: "))
	}
	if err != nil {
		return nil, fmt.Errorf("list processes with ps: %w", err)
	}
	return out, nil
}

func (a *app) newPortCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "port CONTAINER [PORT[/PROTOCOL]]",
		Short:             "List the ports of the host that lead to a container",
		Example:           lines("mica port web", "mica port web 80"),
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeContainers(anyState, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			_, ct, err := a.find(args[0])
			if err != nil {
				return err
			}
			ports := ct.Config.Host.Ports
			if !ct.State.Alive() { // nothing forwards them
				ports = nil
			}
			found := false
			for _, p := range ports {
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
