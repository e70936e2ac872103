package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"mica/internal/format"
	"mica/run"
	"mica/run/record"
)

// statsRow is one line of stats.
type statsRow struct {
	Container, ID, Name, CPUPerc, MemUsage, MemPerc, NetIO, BlockIO, PIDs string
}

var statsTable = format.Table{
	Header: format.Header{
		"Container": "CONTAINER", "ID": "CONTAINER ID", "Name": "NAME", "CPUPerc": "CPU %", "MemUsage": "MEM USAGE / LIMIT", "MemPerc": "MEM %",
		"NetIO": "NET I/O", "BlockIO": "BLOCK I/O", "PIDs": "PIDS",
	},
	Default: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
}

// statsInterval is how long processors are watched.
const statsInterval = time.Second

func (a *app) newStatsCommand() *cobra.Command {
	var all, noStream, noTrunc bool
	var opt format.Options
	c := &cobra.Command{
		Use:   "stats [flags] [CONTAINER...]",
		Short: "Show what containers take of the machine",
		Long: `Show what containers take of the machine: those named, or all that run. The figures are sums over their processes: memory
is what they do not share, and what they have read from and written to disks is that of those that still run. With the
machine's network nothing is known of that.`,
		Example:           lines("mica stats", "mica stats --no-stream --format '{{.Name}}: {{.MemUsage}}'"),
		ValidArgsFunction: a.completeContainers(runningOnly, 0),
	}
	c.Flags().BoolVarP(&all, "all", "a", false, "show those that do not run, too")
	c.Flags().BoolVar(&noStream, "no-stream", false, "show it once")
	c.Flags().BoolVar(&noTrunc, "no-trunc", false, "do not shorten")
	c.Flags().StringVar(&opt.Format, "format", "", "table, json, or a Go template")
	c.RunE = func(c *cobra.Command, args []string) error {
		e, err := a.open()
		if err != nil {
			return err
		}
		before, err := measure(e, args, all)
		for err == nil {
			select {
			case <-c.Context().Done():
				return nil
			case <-time.After(statsInterval):
			}
			var now []measured
			if now, err = measure(e, args, all); err != nil {
				break
			}
			if !noStream && term.IsTerminal(1) {
				fmt.Fprint(stdout, "\x1b[H\x1b[J")
			}
			if err := format.Write(stdout, statsTable, opt, statsRows(before, now, noTrunc)); err != nil || noStream {
				return err
			}
			before = now
		}
		return err
	}
	return c
}

// measured is a container and what it takes, nil if it does not run.
type measured struct {
	*record.Container
	usage *run.Usage
}

// measure looks at the containers named, or at all.
func measure(e *run.Engine, names []string, all bool) ([]measured, error) {
	var list []*record.Container
	for _, ref := range names {
		ct, err := e.Containers.Find(ref)
		if err != nil {
			return nil, err
		}
		list = append(list, ct)
	}
	if len(names) == 0 {
		var err error
		if list, err = e.Containers.List(); err != nil {
			return nil, err
		}
	}
	var out []measured
	for _, ct := range list {
		m := measured{Container: ct}
		if ct.State.Alive() {
			m.usage, _ = e.Usage(ct) // it may just end
		}
		if m.usage != nil || all || len(names) > 0 {
			out = append(out, m)
		}
	}
	return out, nil
}

func statsRows(before, now []measured, noTrunc bool) []statsRow {
	earlier := make(map[string]*run.Usage)
	for _, m := range before {
		earlier[m.ID()] = m.usage
	}
	rows := make([]statsRow, 0, len(now))
	for _, m := range now {
		row := statsRow{Container: m.ID(), ID: m.ID(), Name: m.Config.Name, CPUPerc: "--", MemUsage: "-- / --", MemPerc: "--", NetIO: "-- / --", BlockIO: "-- / --", PIDs: "--"}
		if !noTrunc {
			row.ID = format.ShortID(row.ID)
		}
		if u := m.usage; u != nil {
			row.measure(u, earlier[m.ID()])
		}
		rows = append(rows, row)
	}
	return rows
}

func (r *statsRow) measure(u, before *run.Usage) {
	r.CPUPerc = "0.00%"
	if before != nil {
		r.CPUPerc = percent(float64(max(u.CPU-before.CPU, 0)), float64(u.At.Sub(before.At)))
	}
	r.MemUsage = units.BytesSize(float64(u.Memory)) + " / " + units.BytesSize(float64(u.Limit))
	r.MemPerc = percent(float64(u.Memory), float64(u.Limit))
	r.BlockIO = format.Size(u.Read) + " / " + format.Size(u.Written)
	if u.OwnNetwork {
		r.NetIO = format.Size(u.Received) + " / " + format.Size(u.Sent)
	}
	r.PIDs = fmt.Sprint(u.Processes)
}

func percent(part, whole float64) string {
	if whole <= 0 {
		return "0.00%"
	}
	return fmt.Sprintf("%.2f%%", 100*part/whole)
}

func (a *app) newUpdateCommand() *cobra.Command {
	var restart string
	c := &cobra.Command{
		Use:               "update --restart POLICY CONTAINER...",
		Short:             "Give containers another restart policy",
		Example:           lines("mica update --restart unless-stopped web"),
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeContainers(anyState, 0),
	}
	c.Flags().StringVar(&restart, "restart", "", "start again when it ends: no, on-failure[:N], always, unless-stopped")
	c.RunE = func(_ *cobra.Command, args []string) error {
		if restart == "" {
			return errors.New("nothing to change: add --restart POLICY")
		}
		policy, err := parseRestart(restart)
		if err != nil {
			return err
		}
		return a.each(args, func(e *run.Engine, ct *record.Container) error { return e.SetRestart(ct, policy) })
	}
	return c
}
