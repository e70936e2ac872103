package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"mica/bench"
	"mica/internal/version"
)

// benchFlags are the flags of `mica bench` that are not options of the run itself.
type benchFlags struct {
	list           bool
	jsonTo, htmlTo string
	markdownTo     string
	compareWith    string
	maxRegression  float64
	noProgress     bool
}

func newBenchCommand() *cobra.Command {
	opt := bench.Options{}
	f := benchFlags{}
	cmd := &cobra.Command{
		Use:   "bench [flags] [WORKLOAD|GLOB|DIR]...",
		Short: "Measure mica against other filesystems and container tools",
		Long: `Run the same workloads, interleaved and repeated, on a plain directory, kernel overlayfs in a user namespace,
fuse-overlayfs, mica, and whatever mount command or directory is given, and report medians, spreads and ratios.

No privilege is needed. Run as root (with --as USER for the workloads), cold runs drop the kernel's caches as well.
Every workload checks its answer: a wrong one makes the command fail. A peer or program that is not there is named
and left out. An interrupt stops the run, and what was measured until then is reported.`,
		Example: `  mica bench --quick
  mica bench 'stat*' rename-dir untar
  mica bench --json now.json --html now.html --compare before.json
  mica bench --peer 'other=other-overlay -o lowerdir={lower},upperdir={upper},workdir={work} {dir}' metadata
  mica bench --peers native,kernel,mica -o writeback small-files`,
		ValidArgsFunction: completeBenchWorkloads,
		SilenceUsage:      true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.list {
				return listBenchWorkloads(cmd.OutOrStdout())
			}
			opt.Args = args
			return runBench(cmd, opt, f)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.list, "list", false, "list the workloads and stop")
	fl.BoolVarP(&opt.Quick, "quick", "q", false, "small trees and the cheap workloads only")
	fl.IntVarP(&opt.Runs, "runs", "n", 0, "number of interleaved runs (default 5, with --quick 3)")
	fl.StringSliceVar(&opt.Peers, "peers", nil, "only these built-in peers: native, kernel, fuse-overlayfs, mica, mica-dropin, bwrap, crun, podman, buildah")
	fl.StringArrayVar(&opt.Extra, "peer", nil, "a further peer, `NAME=COMMAND` that mounts {lower}, {upper}, {work} at {dir}")
	fl.StringArrayVarP(&opt.MicaOptions, "option", "o", nil, "a further mount `OPTION` for the peer mica")
	fl.StringVar(&opt.Subject, "subject", "", "the `PEER` that the ratios are of (default mica, else the last one)")
	fl.StringVar(&opt.Root, "rootfs", "", "measure over a copy of the root filesystem in `DIR` instead of a synthetic one")
	fl.StringVar(&opt.Image, "image", "", "measure over the root filesystem of an `IMAGE` in the store")
	fl.StringVar(&opt.Deb, "deb", "", "the package `FILE` that the dpkg workload installs")
	fl.StringVar(&opt.Dir, "dir", "", "where to make the trees, in a directory mica-bench that goes afterwards (default the user's cache directory)")
	fl.BoolVar(&opt.Keep, "keep", false, "keep the generated trees for the next run")
	fl.StringVar(&opt.User, "as", "", "as root: run the workloads as this `USER`")
	fl.DurationVar(&opt.Timeout, "timeout", 0, "bound of one sample (default 10m)")
	fl.StringVar(&f.jsonTo, "json", "", "write the report as JSON to `FILE`, - for standard output")
	fl.StringVar(&f.htmlTo, "html", "", "write the report as one HTML page with charts to `FILE`")
	fl.StringVar(&f.markdownTo, "markdown", "", "write the table as Markdown to `FILE`, - for standard output")
	fl.StringVar(&f.compareWith, "compare", "", "compare with an earlier JSON report in `FILE`")
	fl.Float64Var(&f.maxRegression, "max-regression", 0, "with --compare: fail when the subject got slower by more than this `FACTOR`, beyond what its peers did")
	fl.BoolVar(&f.noProgress, "no-progress", false, "no progress bar")
	cmd.AddCommand(newBenchAgentCommand(), newBenchFilesCommand())
	return cmd
}

// newBenchAgentCommand is the process that takes one sample.
func newBenchAgentCommand() *cobra.Command {
	return &cobra.Command{
		Use: bench.AgentCommand, Hidden: true, Args: cobra.NoArgs,
		Run: func(*cobra.Command, []string) { os.Exit(bench.Agent()) },
	}
}

// newBenchFilesCommand makes and sums files inside a container.
func newBenchFilesCommand() *cobra.Command {
	return &cobra.Command{
		Use: bench.FilesCommand, Hidden: true, SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error { return bench.Files(cmd.OutOrStdout(), args) },
	}
}

func completeBenchWorkloads(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	for _, w := range bench.List() {
		names = append(names, cobra.CompletionWithDesc(w.Name, w.About))
	}
	return names, cobra.ShellCompDirectiveDefault
}

func listBenchWorkloads(w io.Writer) error {
	group := ""
	for _, l := range bench.List() {
		if l.Group != group {
			group = l.Group
			if _, err := fmt.Fprintf(w, "%s\n", group); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(w, "  %-16s %s\n", l.Name, l.About); err != nil {
			return err
		}
	}
	return nil
}

func runBench(cmd *cobra.Command, opt bench.Options, f benchFlags) error {
	var old *bench.Report
	switch fl := cmd.Flags(); {
	case fl.Changed("max-regression") && f.compareWith == "":
		return errors.New("--max-regression needs --compare: name the earlier report")
	case fl.Changed("max-regression") && f.maxRegression <= 0:
		return fmt.Errorf("--max-regression %g: give a factor above 0, such as 1.2", f.maxRegression)
	case fl.Changed("runs") && opt.Runs < 1:
		return fmt.Errorf("--runs %d: at least one is needed", opt.Runs)
	case fl.Changed("runs") && opt.Runs < 2 && fl.Changed("max-regression"):
		return fmt.Errorf("--runs %d: --max-regression takes at least 2, to tell a change from noise", opt.Runs)
	}
	for _, name := range []string{f.jsonTo, f.htmlTo, f.markdownTo} { // not after an hour
		if name == "" || name == "-" {
			continue
		}
		if err := unix.Access(filepath.Dir(name), unix.W_OK); err != nil {
			return fmt.Errorf("write report %s: %w", name, err)
		}
	}
	if f.compareWith != "" {
		var err error
		if old, err = readBenchReport(f.compareWith); err != nil {
			return err
		}
	}
	opt.Log, opt.Build = cmd.ErrOrStderr(), version.Get().String()
	if !f.noProgress && term.IsTerminal(int(os.Stderr.Fd())) {
		opt.Progress = os.Stderr
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	rep, runErr := bench.Run(ctx, opt)
	if rep == nil {
		if errors.Is(runErr, context.Canceled) {
			return errors.New("interrupted before anything was measured")
		}
		return runErr
	}
	var changes []bench.Change
	if old != nil {
		var err error
		if changes, err = bench.Compare(old, rep); err != nil {
			return errors.Join(err, writeBenchReports(cmd, rep, nil, f))
		}
	}
	if err := writeBenchReports(cmd, rep, changes, f); err != nil {
		return errors.Join(runErr, err)
	}
	if f.maxRegression > 0 {
		if worse := bench.Regressions(changes, rep.Subject, f.maxRegression); len(worse) > 0 {
			var names []string
			for _, c := range worse {
				names = append(names, c.Workload)
			}
			return errors.Join(runErr, fmt.Errorf("more than %g times what they took before take: %s", f.maxRegression, strings.Join(names, ", ")))
		}
	}
	if runErr == nil && rep.Interrupted {
		return exitCode(128 + int(syscall.SIGINT))
	}
	return runErr
}

func readBenchReport(name string) (*bench.Report, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("open earlier report: %w", err)
	}
	defer file.Close()
	return bench.ReadJSON(file)
}

// writeBenchReports writes the text to standard output, unless another form goes there, and the files that were asked for.
func writeBenchReports(cmd *cobra.Command, rep *bench.Report, changes []bench.Change, f benchFlags) error {
	out := cmd.OutOrStdout()
	var errs []error
	if f.jsonTo != "-" && f.markdownTo != "-" {
		errs = append(errs, rep.WriteText(out))
		if changes != nil {
			errs = append(errs, bench.WriteChanges(out, changes))
		}
	}
	for _, r := range []struct {
		to    string
		write func(io.Writer) error
	}{
		{f.jsonTo, rep.WriteJSON},
		{f.markdownTo, rep.WriteMarkdown},
		{f.htmlTo, func(w io.Writer) error { return rep.WriteHTML(w, changes) }},
	} {
		switch r.to {
		case "":
		case "-":
			errs = append(errs, r.write(out))
		default:
			errs = append(errs, writeOutput(r.to, r.write))
		}
	}
	return errors.Join(errs...)
}
