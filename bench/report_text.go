package bench

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// WriteText writes the report as a table for the terminal.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	for _, line := range r.heading() {
		b.WriteString(line + "\n")
	}
	if len(r.Results) > 0 {
		b.WriteString(r.table(false).Render() + "\n")
	}
	for _, line := range r.footing() {
		b.WriteString(line + "\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write text report: %w", err)
	}
	return nil
}

// WriteMarkdown writes the table alone, for a document.
func (r *Report) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	for _, line := range r.heading() {
		b.WriteString(line + "  \n")
	}
	b.WriteString("\n" + r.table(true).RenderMarkdown() + "\n\n")
	for _, line := range r.footing() {
		b.WriteString("- " + line + "\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write Markdown report: %w", err)
	}
	return nil
}

// table has a row for each workload: the median and spread of each peer, the ratio of the subject to each other peer,
// and what the subject's server had to do.
func (r *Report) table(markdown bool) table.Writer {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	style.Options.SeparateColumns, style.Options.DrawBorder = false, false
	t.SetStyle(style)
	head := table.Row{"workload"}
	var columns []table.ColumnConfig
	add := func(name string) {
		head = append(head, name)
		columns = append(columns, table.ColumnConfig{Number: len(head), Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	for _, p := range r.Peers {
		add(p.Name)
	}
	for _, p := range r.Peers {
		if p.Name != r.Subject {
			add("/ " + p.Name)
		}
	}
	add("req/op")
	add("server cpu")
	t.AppendHeader(head)
	t.SetColumnConfigs(columns)
	group := ""
	for _, row := range r.Rows() {
		if row.Group != group && group != "" && !markdown {
			t.AppendSeparator()
		}
		group = row.Group
		t.AppendRow(r.tableRow(row))
	}
	return t
}

func (r *Report) tableRow(row Row) table.Row {
	cells := table.Row{row.Workload}
	for _, p := range r.Peers {
		cells = append(cells, formatResult(row.ByPeer[p.Name]))
	}
	for _, p := range r.Peers {
		if p.Name == r.Subject {
			continue
		}
		cells = append(cells, formatRatio(row.Ratio(r.Subject, p.Name)))
	}
	requests, cpu := "", ""
	if s := row.ByPeer[r.Subject]; s != nil && len(s.Samples) > 0 {
		if n, ok := s.requestsPerOp(); ok {
			requests = fmt.Sprintf("%.3g", n)
		}
		if s.ServerCPU >= 0 {
			cpu = formatSeconds(s.ServerCPU)
		}
	}
	return append(cells, requests, cpu)
}

// heading says what was measured where.
func (r *Report) heading() []string {
	e := r.Environment
	size := "full size"
	if r.Quick {
		size = "quick"
	}
	lines := []string{
		fmt.Sprintf("mica bench, %s, %s: medians of up to %d interleaved runs, ± half the interquartile range", e.Time.Format("2006-01-02 15:04"), size, r.Runs),
		fmt.Sprintf("Linux %s, %d x %s, %d MB, %s", e.Kernel, e.CPUs, e.CPU, e.MemoryMB, e.Filesystem),
		r.coldMethod(),
	}
	for _, p := range r.Peers {
		v := p.Version
		if p.Dir != "" {
			v = p.Dir
		}
		lines = append(lines, fmt.Sprintf("%s: %s", p.Name, v))
	}
	if r.Interrupted {
		lines = append(lines, "interrupted: only what was measured until then")
	}
	return lines
}

// footing is notes, failures and what was left out.
func (r *Report) footing() []string {
	lines := []string{fmt.Sprintf("times are of one pass; \"/ peer\" is %s's median over that peer's, below 1 %s is faster", r.Subject, r.Subject)}
	seen := map[string]bool{}
	for _, res := range r.Results {
		if res.Note != "" && !seen[res.Workload+res.Peer] {
			seen[res.Workload+res.Peer] = true
			lines = append(lines, fmt.Sprintf("note: %s on %s: %s", res.Workload, res.Peer, res.Note))
		}
	}
	for _, res := range r.Results {
		if res.Failed != "" {
			lines = append(lines, fmt.Sprintf("failed: %s on %s: %s", res.Workload, res.Peer, res.Failed))
		}
	}
	for _, l := range r.LeftOut {
		lines = append(lines, fmt.Sprintf("left out: %s: %s", l.What, l.Why))
	}
	for _, w := range r.Wrong {
		lines = append(lines, "WRONG: "+w)
	}
	return lines
}

func formatResult(res *Result) string {
	switch {
	case res == nil:
		return ""
	case len(res.Samples) == 0 && res.Failed != "":
		return "failed"
	case len(res.Samples) == 0:
		return "-"
	case res.Unit == "kB":
		return fmt.Sprintf("%.1f MB ±%.0f%%", res.Median/1024, res.Spread*100)
	}
	return fmt.Sprintf("%s ±%.0f%%", formatSeconds(res.Median), res.Spread*100)
}

// formatSeconds takes the unit that leaves three figures.
func formatSeconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", float64(d)/float64(time.Microsecond))
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%.3g s", d.Seconds())
}

func formatRatio(x float64) string {
	switch {
	case x == 0:
		return ""
	case x < 0.01:
		return fmt.Sprintf("%.1g", x)
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.0f", x)
}
