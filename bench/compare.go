package bench

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Change is one workload on one peer in two reports.
type Change struct {
	Workload, Peer string
	Old, New       *Result
	// Ratio is new over old: above 1 it got slower.
	Ratio float64
	// Beyond says that the change is larger than the spreads of both, so that it is likely to be one. Fewer than minRuns
	// samples have no spread to speak of.
	Beyond bool
}

// minRuns is how many samples of each report it takes to tell a change from noise.
const minRuns = 2

func (c Change) fewRuns() bool { return min(len(c.Old.Samples), len(c.New.Samples)) < minRuns }

// Compare sets two reports side by side, for all that both have. It fails where they were not measured alike.
func Compare(old, current *Report) ([]Change, error) {
	if old.Scale != current.Scale {
		return nil, fmt.Errorf("compare reports: they were measured at different sizes (quick: %v and %v)", old.Quick, current.Quick)
	}
	before := map[[2]string]*Result{}
	for _, res := range old.Results {
		before[[2]string{res.Workload, res.Peer}] = res
	}
	var out []Change
	for _, res := range current.Results {
		o := before[[2]string{res.Workload, res.Peer}]
		if o == nil || len(o.Samples) == 0 || len(res.Samples) == 0 || o.Median <= 0 {
			continue
		}
		c := Change{Workload: res.Workload, Peer: res.Peer, Old: o, New: res, Ratio: res.Median / o.Median}
		gap := res.Median - o.Median
		c.Beyond = !c.fewRuns() && max(gap, -gap) > o.Spread*o.Median+res.Spread*res.Median
		out = append(out, c)
	}
	return out, nil
}

// WriteChanges writes a comparison as a table.
func WriteChanges(w io.Writer, changes []Change) error {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	style.Options.SeparateColumns, style.Options.DrawBorder = false, false
	t.SetStyle(style)
	t.AppendHeader(table.Row{"workload", "peer", "before", "now", "now/before", ""})
	t.SetColumnConfigs([]table.ColumnConfig{{Number: 3, Align: text.AlignRight}, {Number: 4, Align: text.AlignRight}, {Number: 5, Align: text.AlignRight}})
	for _, c := range changes {
		mark := "within the spread"
		switch {
		case c.fewRuns():
			mark = "too few runs to tell"
		case c.Beyond && c.Ratio > 1:
			mark = "slower"
		case c.Beyond:
			mark = "faster"
		}
		t.AppendRow(table.Row{c.Workload, c.Peer, formatResult(c.Old), formatResult(c.New), formatRatio(c.Ratio), mark})
	}
	if _, err := fmt.Fprintln(w, t.Render()); err != nil {
		return fmt.Errorf("write comparison: %w", err)
	}
	return nil
}

// Regressions are the workloads in which a peer got slower by more than a factor and beyond the spreads, measured against
// how the other peers of the workload changed: where all of them got slower, the machine did.
func Regressions(changes []Change, peer string, factor float64) []Change {
	others := map[string][]float64{}
	for _, c := range changes {
		if c.Peer != peer {
			others[c.Workload] = append(others[c.Workload], c.Ratio)
		}
	}
	var out []Change
	for _, c := range changes {
		if c.Peer != peer || !c.Beyond {
			continue
		}
		machine := 1.0
		if o := others[c.Workload]; len(o) > 0 {
			machine = median(o)
		}
		if c.Ratio > factor*machine {
			out = append(out, c)
		}
	}
	return out
}
