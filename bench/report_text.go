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
	for _, sec := range r.sections() {
		b.WriteString(r.table(sec, true).Render() + "\n")
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
	for _, sec := range r.sections() {
		b.WriteString("\n" + r.table(sec, false).RenderMarkdown() + "\n")
	}
	b.WriteString("\n")
	for _, line := range r.footing() {
		b.WriteString("- " + line + "\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write Markdown report: %w", err)
	}
	return nil
}

// header names the columns of a section: the peers, the ratios to them, and what the subject's server had to do.
func (r *Report) header(sec section) []string {
	head := append([]string{"workload"}, sec.peers...)
	for _, p := range sec.others(r.Subject) {
		head = append(head, "/ "+p)
	}
	return append(head, "req/op", "server cpu")
}

// table has a row for each workload of a section.
func (r *Report) table(sec section, lines bool) table.Writer {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	style.Options.SeparateColumns, style.Options.DrawBorder = false, false
	t.SetStyle(style)
	head := table.Row{}
	var columns []table.ColumnConfig
	for i, name := range r.header(sec) {
		head = append(head, name)
		if i > 0 {
			columns = append(columns, table.ColumnConfig{Number: i + 1, Align: text.AlignRight, AlignHeader: text.AlignRight})
		}
	}
	t.AppendHeader(head)
	t.SetColumnConfigs(columns)
	group := ""
	for _, row := range sec.rows {
		if row.Group != group && group != "" && lines {
			t.AppendSeparator()
		}
		group = row.Group
		cells := table.Row{row.Workload}
		for _, c := range r.cells(sec, row) {
			cells = append(cells, c.Text)
		}
		t.AppendRow(cells)
	}
	return t
}

// cell is one figure, with what a page shows beside it.
type cell struct{ Text, Hint, Class string }

// cells are the figures of a row, in the order of the header.
func (r *Report) cells(sec section, row Row) []cell {
	var out []cell
	for _, p := range sec.peers {
		out = append(out, cell{Text: formatResult(row.ByPeer[p]), Hint: row.ByPeer[p].hint()})
	}
	for _, p := range sec.others(r.Subject) {
		x := row.Ratio(r.Subject, p)
		c := cell{Text: formatRatio(x)}
		switch {
		case x > 1.1:
			c.Class = "slower"
		case x > 0 && x <= 0.95:
			c.Class = "faster"
		}
		out = append(out, c)
	}
	var requests, cpu cell
	if s := row.ByPeer[r.Subject]; s != nil && len(s.Samples) > 0 {
		if n, ok := s.requestsPerOp(); ok {
			requests = cell{Text: fmt.Sprintf("%.3g", n), Hint: s.describeRequests()}
		}
		if s.ServerCPU >= 0 {
			cpu.Text = formatSeconds(s.ServerCPU)
		}
	}
	return append(out, requests, cpu)
}

// hint is what stands behind a figure.
func (res *Result) hint() string {
	switch {
	case res == nil:
		return ""
	case len(res.Samples) == 0:
		return res.Failed
	}
	return strings.TrimSpace(fmt.Sprintf("%d samples, %s to %s, %d operations. %s",
		len(res.Samples), formatValue(res, res.Min), formatValue(res, res.Max), res.Ops, res.Note))
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
	if e.Load > float64(e.CPUs)/2 {
		lines = append(lines, fmt.Sprintf("the machine had a load of %.1f when this began: other programs are in the figures", e.Load))
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
	}
	return fmt.Sprintf("%s ±%.0f%%", formatValue(res, res.Median), res.Spread*100)
}

// formatValue writes a value in the result's unit.
func formatValue(res *Result, v float64) string {
	if res.Unit == "kB" {
		return fmt.Sprintf("%.1f MB", v/1024)
	}
	return formatSeconds(v)
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
